"""Picking an answer up again: on any edge, during the turn and after it."""

import asyncio
import re
from dataclasses import dataclass
from typing import Final

from starlette.types import Receive, Send

from producers.http.refused import RequestRefused
from producers.ingest.core import IngestSettings
from producers.ingest.ports import IngestPorts
from schemas import ids
from schemas.accounts import Account
from schemas.cursors import Cursor, CursorSigner
from schemas.errors import Refusal, invalid_request
from schemas.ports import StoredAnswer
from schemas.tokens import Cleared

_RESUMED: Final = "turnstream_streams_resumed_total"
_SEQ: Final = re.compile(r"0|[1-9][0-9]{0,9}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Resumption:
    """What a client asks for: the rest of a turn after a place, as text; ``last_event_id`` is an EventSource's."""

    public_id: str
    starting_after: str | None
    last_event_id: str | None
    include_usage: bool


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A resumption whose turn id and place may be this user's. ``reconnecting``: by an EventSource, by itself."""

    account: Account
    turn_id: str
    after: int | None
    cursor: Cursor | None
    reconnecting: bool
    include_usage: bool


class Resumer:
    """Streams of turns that were begun before."""

    def __init__(
        self, ports: IngestPorts, settings: IngestSettings, *, cursor_key: bytes, tokens_partitions: int
    ) -> None:
        self._ports = ports
        self._settings = settings
        self._cursor_key = cursor_key
        self._tokens_partitions = tokens_partitions

    async def resume(self, account: Account, asked: Resumption, receive: Receive, send: Send) -> None:
        """Write the stream. Nothing is read for a turn id or a place that this user cannot have been given.

        Raises RequestRefused (404), Retryable.
        """
        wanted = self._wanted(account, asked)
        cleared = await self._clearance(wanted.turn_id)
        if cleared is None:
            await self._replay(wanted, receive, send)
            return
        if not owns(account, cleared):
            raise RequestRefused(completion_not_found())
        if await self._nothing_follows(wanted):
            await _stop_reconnecting(send)
            return
        reader = await self._ports.readers.follow(wanted.turn_id, cleared=cleared, cursor=wanted.cursor)
        self._ports.metrics.count(_RESUMED, source="log")
        await self._ports.answerer.resume(
            cleared, reader, receive, send, after=wanted.after, include_usage=wanted.include_usage
        )

    def known_turn(self, public_id: str) -> str:
        """The turn id in ``public_id``, of a partition that is there and not of the future. Raises RequestRefused."""
        try:
            turn_id = ids.parse_turn_id(public_id)
        except ValueError:
            raise RequestRefused(completion_not_found()) from None
        if ids.turn_partition(turn_id) >= self._tokens_partitions:
            raise RequestRefused(completion_not_found())
        if ids.turn_time_ms(turn_id) > self._ports.now_ms() + self._settings.clock_skew_ms_max:
            raise RequestRefused(completion_not_found())
        return turn_id

    def _wanted(self, account: Account, asked: Resumption) -> _Wanted:
        turn_id = self.known_turn(asked.public_id)
        text = asked.starting_after if asked.starting_after is not None else asked.last_event_id
        after: int | None = None
        cursor: Cursor | None = None
        if asked.starting_after is not None and _SEQ.fullmatch(asked.starting_after):
            after = int(asked.starting_after)
        elif text:
            cursor = CursorSigner(self._cursor_key, turn_id, account.tenant_id, account.user_id).verify(text)
            if cursor is None:
                raise RequestRefused(completion_not_found())
            after = cursor.seq
        reconnecting = asked.starting_after is None and after is not None
        return _Wanted(account, turn_id, after, cursor, reconnecting, asked.include_usage)

    async def _clearance(self, turn_id: str) -> Cleared | None:
        """The turn's clearance; a turn that is only just submitted is waited for."""
        settings = self._settings
        grace_s = settings.clearance_seconds_max - (self._ports.now_ms() - ids.turn_time_ms(turn_id)) / 1000
        until_s = asyncio.get_running_loop().time() + min(grace_s, settings.clearance_seconds_max)
        while True:
            cleared = await self._ports.lookup.clearance(turn_id)
            if cleared is not None or asyncio.get_running_loop().time() >= until_s:
                return cleared
            await asyncio.sleep(settings.clearance_poll_seconds)

    async def _nothing_follows(self, wanted: _Wanted) -> bool:
        if not wanted.reconnecting or wanted.after is None:
            return False
        state = self._ports.states.state(wanted.turn_id) or await self._ports.lookup.find(wanted.turn_id)
        return state.settled and wanted.after >= state.next_seq

    async def _replay(self, wanted: _Wanted, receive: Receive, send: Send) -> None:
        stored = await self._ports.stored.find(wanted.turn_id)
        if stored is None or not owns(wanted.account, stored):
            raise RequestRefused(completion_not_found())
        after = wanted.after
        if wanted.reconnecting and after is not None and after >= len(stored.pieces):
            await _stop_reconnecting(send)
            return
        self._ports.metrics.count(_RESUMED, source="store")
        await self._ports.answerer.replay(stored, receive, send, after=after, include_usage=wanted.include_usage)


def owns(account: Account, turn: Cleared | StoredAnswer) -> bool:
    """Whether the turn is one of this user's."""
    return (turn.tenant_id, turn.user_id) == (account.tenant_id, account.user_id)


def completion_not_found() -> Refusal:
    """404, the same for an unknown turn, somebody else's, and a place in it that was never given out."""
    return invalid_request("No such completion.", "id", "completion_not_found", status=404)


async def _stop_reconnecting(send: Send) -> None:
    """204 tells an EventSource that has everything not to come again (HTML, section 9.2.2)."""
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})
