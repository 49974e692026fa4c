"""The time of one run of a turn: its deadline, its pauses, and what wakes it."""

import asyncio


class TurnClock:
    """Counts on the monotonic clock from its start on: a step of the wall clock must not end a turn."""

    def __init__(self, left_ms: float) -> None:
        """``left_ms`` until nobody waits for the answer any more. Make it inside the running event loop."""
        self._deadline_s = self.now_s + left_ms / 1000
        self._news = asyncio.Event()
        self._appended_at_s = 0.0
        self.hinted = False

    @property
    def now_s(self) -> float:
        """Seconds of the monotonic clock."""
        return asyncio.get_running_loop().time()

    @property
    def left_ms(self) -> float:
        """Milliseconds until the deadline."""
        return (self._deadline_s - self.now_s) * 1000

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

    async def wait(self, wait_ms: float) -> None:
        """Sleep until woken or hinted, ``wait_ms`` or the deadline."""
        if self.hinted:
            return
        try:
            async with asyncio.timeout(max(0.0, min(wait_ms, self.left_ms)) / 1000):
                await self._news.wait()
        except TimeoutError:
            return

    def appended(self) -> None:
        """An append is done."""
        self._appended_at_s = self.now_s

    async def coalesce(self, pause_ms: float) -> None:
        """Sleep until ``pause_ms`` after the last append."""
        rest_s = self._appended_at_s + pause_ms / 1000 - self.now_s
        if rest_s > 0:
            await asyncio.sleep(rest_s)
