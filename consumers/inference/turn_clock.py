"""The time of one run of a turn: its deadline, its pauses, and what wakes it."""

import asyncio
from contextlib import suppress


class TurnClock:
    """Counts on the monotonic clock from its start on: a step of the wall clock must not end a turn."""

    def __init__(self, left_ms: float) -> None:
        """``left_ms`` until nobody waits for the answer any more. Make it inside the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._news = False
        # What the one task that runs the turn waits for, or waited for last.
        self._waiter: asyncio.Future[None] | None = None
        # One alarm for all waits to the deadline: one each would be a timer for every token.
        self._alarm = self._loop.call_later(left_ms / 1000, self._ring)
        self.over = left_ms <= 0
        self.hinted = False

    @property
    def now_s(self) -> float:
        """Seconds of the monotonic clock."""
        return self._loop.time()

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

    def news(self) -> "asyncio.Future[None]":
        """Done when woken or hinted, or at the deadline. Not to be called while another one is waited for."""
        self._waiter = self._loop.create_future()
        if self._news or self.hinted or self.over:
            self._waiter.set_result(None)
        return self._waiter

    async def wait(self, wait_ms: float) -> None:
        """Sleep until then, but for ``wait_ms`` at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, wait_ms) / 1000):
                await self.news()

    def close(self) -> None:
        """Set the alarm off."""
        self._alarm.cancel()

    def _ring(self) -> None:
        self.over = True
        self.wake()
