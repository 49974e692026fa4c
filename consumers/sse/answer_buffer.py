"""Events on their way to one client, within bounds."""

import asyncio
from collections.abc import Callable, Sequence

from consumers.sse.core import StreamBroken, fell_behind
from schemas.tokens import TokenEvent


class AnswerBuffer:
    """Implements ``AnswerReader`` for one client.

    Holds at most ``events_max`` events and ``bytes_max`` bytes (as on the log). A client that lets more pile
    up gets what is held and then StreamBroken: the log is the buffer for the slow, not this process.
    """

    __slots__ = ("_broken", "_bytes", "_bytes_max", "_due_s", "_events", "_events_max", "_on_close", "_waiter")

    def __init__(self, events_max: int, bytes_max: int, on_close: Callable[[], None]) -> None:
        self._events_max = events_max
        self._bytes_max = bytes_max
        self._on_close = on_close
        self._events: list[TokenEvent] = []
        self._bytes = 0
        self._broken: StreamBroken | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._due_s = 0.0

    async def next_events(self, wait_s: float) -> Sequence[TokenEvent]:
        """The next events; empty when about ``wait_s`` passed without any. Raises StreamBroken."""
        if not self._events and self._broken is None:
            await self._wait(wait_s)
        events, self._events, self._bytes = self._events, [], 0
        if not events and self._broken is not None:
            raise self._broken
        return events

    def close(self) -> None:
        """Stop following the turn; may be called again."""
        self._events = []
        self._on_close()

    def push(self, event: TokenEvent, size_bytes: int) -> None:
        """Take the next event of the turn."""
        if self._broken is not None:
            return
        if len(self._events) >= self._events_max or self._bytes + size_bytes > self._bytes_max:
            self.break_off(StreamBroken(fell_behind()))
            return
        self._events.append(event)
        self._bytes += size_bytes
        self._wake()

    def break_off(self, cause: StreamBroken) -> None:
        """Take no more events; the reader gets ``cause`` after those that are held."""
        self._broken = self._broken or cause
        self._wake()

    def wake_if_due(self, now_s: float) -> None:
        """End a wait whose time is over; called by the ticker of ``LiveTurns``."""
        if now_s >= self._due_s:
            self._wake()

    async def _wait(self, wait_s: float) -> None:
        loop = asyncio.get_running_loop()
        self._due_s = loop.time() + wait_s
        self._waiter = loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
