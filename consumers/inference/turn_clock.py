"""The time of one run of a turn: its deadline, its pauses, and what wakes it."""

import asyncio
import math
from contextlib import suppress
from typing import Final

_REST_SHARE_MIN: Final = 0.25


class TurnClock:
    """Counts on the monotonic clock from its start on: a step of the wall clock must not end a turn."""

    def __init__(self, left_ms: float) -> None:
        """``left_ms`` until nobody waits for the answer any more. Make it inside the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._deadline_s = self._loop.time() + left_ms / 1000
        self._news = False
        # The one task that runs the turn, while it waits.
        self._waiter: asyncio.Future[None] | None = None
        # One alarm for all waits to the deadline: one each would be a timer for every token.
        self._alarm = self._loop.call_at(self._deadline_s, self._ring)
        self._rung = False
        self.hinted = False

    @property
    def now_s(self) -> float:
        """Seconds of the monotonic clock."""
        return self._loop.time()

    @property
    def left_ms(self) -> float:
        """Milliseconds until the deadline."""
        # Timers may be early by the grain of their clock; once it has rung, the time is over.
        return 0.0 if self._rung else (self._deadline_s - self.now_s) * 1000

    def hint(self) -> None:
        """Somebody says that the turn was cancelled."""
        self.hinted = True
        self.wake()

    def wake(self) -> None:
        """There is something to look at."""
        self._news = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def listen(self) -> None:
        """From here on, what happens wakes the next ``wait``. Look at what has happened before after this."""
        self._news = False

    async def wait_for_news(self) -> None:
        """Sleep until woken or hinted, or the deadline."""
        if self._news or self.hinted or self.left_ms <= 0:
            return
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    async def wait(self, wait_ms: float) -> None:
        """The same, but for ``wait_ms`` at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, wait_ms) / 1000):
                await self.wait_for_news()

    def close(self) -> None:
        """Set the alarm off."""
        self._alarm.cancel()

    async def rest(self, beat_ms: float) -> None:
        """Sleep until the next beat of ``beat_ms`` that is not about to come anyway.

        All turns of a process have the same beats, so what they append at one leaves in one request.
        """
        if beat_ms > 0:
            now_s = self.now_s
            await asyncio.sleep(next_beat_s(now_s, beat_ms / 1000) - now_s)

    def _ring(self) -> None:
        self._rung = True
        self.wake()


def next_beat_s(now_s: float, beat_s: float) -> float:
    """The first multiple of ``beat_s`` that is at least a quarter of it away from ``now_s``."""
    return math.ceil(now_s / beat_s + _REST_SHARE_MIN) * beat_s
