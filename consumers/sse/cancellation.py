"""Ending turns before their time: because a client asks, or because nobody waits for the answer any more."""

import asyncio
from typing import Final, Literal

import structlog

from consumers.sse.core import SseSettings
from consumers.sse.live_turns import LiveTurns
from schemas import serde
from schemas.errors import Retryable
from schemas.event import Event
from schemas.events import TurnCancelled
from schemas.ids import turn_partition
from schemas.ports import Outgoing, Producer
from schemas.tokens import Cancelled
from schemas.topics import TOKENS, TURNS_CANCELLED, Topic

CancelReason = Literal["client", "abandoned"]

_LOG: Final = structlog.get_logger(__name__)


class Cancellation:
    """Cancels turns now or later. ``run`` must be running for the latter."""

    def __init__(self, turns: LiveTurns, producer: Producer, settings: SseSettings) -> None:
        self._turns = turns
        self._producer = producer
        self._settings = settings
        self._waiting = 0
        self._tasks: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Watch over abandoned turns until cancelled."""
        async with asyncio.TaskGroup() as self._tasks:
            await asyncio.get_running_loop().create_future()

    async def cancel(self, turn_id: str, reason: CancelReason) -> None:
        """Put ``Cancelled`` on the turn's log, then hint to inference. Raises OutcomeUnknown."""
        await self._append(TOKENS, turn_id, Cancelled(turn_id=turn_id, reason=reason), turn_partition(turn_id))
        _LOG.info("turn_cancelled", turn_id=turn_id, reason=reason)
        try:
            await self._append(TURNS_CANCELLED, turn_id, TurnCancelled(turn_id=turn_id, reason=reason), None)
        except Retryable as error:
            # The verdict is on the log; without the hint inference finds it a little later.
            _LOG.warning("cancel_hint_lost", turn_id=turn_id, error=type(error).__name__)

    def cancel_later(self, turn_id: str, grace_s: float) -> None:
        """Cancel the turn after ``grace_s`` unless it is over by then, or followed again: here or at another edge."""
        if self._tasks is None:
            raise RuntimeError("Cancellation.run is not running")
        if self._waiting >= self._settings.abandoned_turns_max:
            grace_s = 0
        self._waiting += 1
        self._turns.feed.hold(turn_id)
        self._tasks.create_task(self._cancel_unless_ended(turn_id, grace_s))

    async def _cancel_unless_ended(self, turn_id: str, grace_s: float) -> None:
        try:
            await asyncio.sleep(grace_s)
            state = self._turns.state(turn_id)
            over = state is not None and state.terminal is not None
            if not over and not self._turns.followed(turn_id):
                await self.cancel(turn_id, "abandoned")
        except Retryable as error:
            # It then runs to its end: tokens are lost, nothing else.
            _LOG.warning("abandoned_turn_not_cancelled", turn_id=turn_id, error=type(error).__name__)
        finally:
            self._waiting -= 1
            self._turns.feed.release(turn_id)

    async def _append(self, topic: Topic, turn_id: str, event: Event, partition: int | None) -> None:
        record = Outgoing(
            topic=topic.name,
            key=turn_id.encode(),
            value=serde.encode(event),
            headers=serde.event_headers(topic, turn_id, self._turns.traceparent(turn_id)),
            partition=partition,
        )
        await self._producer.append([record])
