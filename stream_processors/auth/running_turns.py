"""One turn of a conversation at a time: which turns run, and whether that is still true."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from schemas import ids
from schemas.errors import Retryable
from schemas.ports import ActiveTurns, TurnLookup
from schemas.stream_state import INITIAL
from stream_processors.auth.core import AuthSettings
from stream_processors.bounded_gather import gather_bounded

_LOG: Final = structlog.get_logger(__name__)
_MS_PER_S: Final = 1_000


@dataclass(frozen=True, slots=True)
class Doubted:
    """What became of noted turns: those that are ``over``, those of which the log did not tell (``untold``)."""

    over: frozenset[str]
    untold: frozenset[str]


class RunningTurns:
    """Notes of the turns that were let in, checked against the log before they keep anybody out.

    A note may outlive its turn: its writer cannot know of every end. It never comes too late, because it is durable
    before the turn goes on.
    """

    def __init__(
        self, active: ActiveTurns, lookup: TurnLookup, settings: AuthSettings, now_ms: Callable[[], int]
    ) -> None:
        self._active = active
        self._lookup = lookup
        self._settings = settings
        self._now_ms = now_ms

    async def noted(self, conversation_ids: Sequence[str]) -> Mapping[str, Sequence[str]]:
        """The noted turns of each conversation, oldest first. Raises Retryable."""
        return await self._active.active(conversation_ids) if conversation_ids else {}

    async def doubt(self, turns: Mapping[str, str]) -> Doubted:
        """Whether the noted ``turns`` (turn id -> conversation id) are over; the notes of those are removed.

        Raises Retryable when a note cannot be removed.
        """
        deadline_s = asyncio.get_running_loop().time() + self._settings.lookup_seconds_max

        def call_for(turn_id: str) -> Callable[[], Awaitable[bool | None]]:
            return lambda: self._is_over(turn_id, deadline_s)

        verdicts = (
            ()
            if not turns
            else await gather_bounded([call_for(turn_id) for turn_id in turns], self._settings.lookups_in_flight_max)
        )
        told = dict(zip(turns, verdicts, strict=True))
        ended = {turn_id: turns[turn_id] for turn_id, over in told.items() if over}
        if ended:
            await self._active.end(ended)
        return Doubted(frozenset(ended), frozenset(turn_id for turn_id, over in told.items() if over is None))

    async def begin(self, turns: Mapping[str, str]) -> None:
        """Note ``turns`` (turn id -> conversation id). Raises Retryable."""
        if turns:
            await self._active.begin(turns)

    async def _is_over(self, turn_id: str, deadline_s: float) -> bool | None:
        """None when the log does not tell in time."""
        age_s = (self._now_ms() - ids.turn_time_ms(turn_id)) / _MS_PER_S
        if age_s > self._settings.turn_life_seconds_max:
            return True
        try:
            async with asyncio.timeout_at(deadline_s):
                state = await self._lookup.find(turn_id)
        except (Retryable, TimeoutError) as error:
            _LOG.warning("auth.turn_not_looked_up", turn_id=turn_id, error=str(error) or "no time left")
            return None
        if state is INITIAL:
            return age_s > self._settings.turn_unseen_seconds_max
        return state.settled
