"""The time of one run of a turn: its deadline, its pauses, and what wakes it."""

import asyncio
from contextlib import suppress


class TurnClock:
    """Counts on the monotonic clock from its start on: a step of the wall clock must not end a turn."""

    def __init__(self, left_ms: float) -> None:
        """``left_ms`` until nobody waits for the answer any more. Make it inside the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._deadline_s = self._loop.time() + left_ms / 1000
        self._news = asyncio.Event()
        # One alarm for all waits to the deadline: one each would be a timer for every token.
        self._alarm = self._loop.call_at(self._deadline_s, self._ring)
        self._rung = False
        self._appended_at_s = 0.0
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
        self._news.set()

    def wake(self) -> None:
        """There is something to look at."""
        self._news.set()

    def listen(self) -> None:
        """From here on, what happens wakes the next ``wait``. Look at what has happened before after this."""
        self._news.clear()

    async def wait_for_news(self) -> None:
        """Sleep until woken or hinted, or the deadline."""
        if not self.hinted and self.left_ms > 0:
            await self._news.wait()

    async def wait(self, wait_ms: float) -> None:
        """The same, but for ``wait_ms`` at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, wait_ms) / 1000):
                await self.wait_for_news()

    def close(self) -> None:
        """Set the alarm off."""
        self._alarm.cancel()

    def appended(self) -> None:
        """An append is done."""
        self._appended_at_s = self.now_s

    async def coalesce(self, pause_ms: float) -> None:
        """Sleep until ``pause_ms`` after the last append."""
        rest_s = self._appended_at_s + pause_ms / 1000 - self.now_s
        if rest_s > 0:
            await asyncio.sleep(rest_s)

    def _ring(self) -> None:
        self._rung = True
        self._news.set()
