"""Takes the records of all streams together, and acknowledges them once they are worked.

Faust's own batches (``Stream.take``) wait in each stream for themselves; here one task works what came in all of
them, so one user's events meet in one place, one after the other, and what they change is written together.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

Work = Callable[[Sequence[Any]], Awaitable[None]]


class Batches:
    """Records that wait to be worked together, in the order in which they came. Bounded."""

    def __init__(self, app: Any, work: Work, records_max: int, seconds_max: float) -> None:
        """``work`` gets at most ``records_max`` at once; the first of them waits ``seconds_max`` for others."""
        self._app = app
        self._work = work
        self._records_max = records_max
        self._seconds_max = seconds_max
        self._waiting: deque[Any] = deque()
        self._some, self._room, self._full = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._room.set()

    async def collect(self, stream: Any) -> None:
        """An agent that puts the records of its stream here. Nothing of them is acknowledged yet."""
        async for record in stream.noack().events():
            self._waiting.append(record)
            self._some.set()
            if len(self._waiting) >= self._records_max:
                self._full.set()
                self._room.clear()
                await self._room.wait()

    async def run(self) -> None:
        """Work batches, one after the other, for ever. As a task of the app: what it raises ends the app.

        So what was taken is taken again, by a new process from the committed offsets.
        """
        while True:
            await self._work_one()

    async def _work_one(self) -> None:
        await self._some.wait()
        try:
            async with asyncio.timeout(self._seconds_max):
                await self._full.wait()
        except TimeoutError:
            pass
        batch = list(self._waiting)
        self._waiting.clear()
        self._some.clear()
        self._full.clear()
        self._room.set()
        # Taken before the group met anew: whoever has the partition now gets them from the committed offset.
        generation = self._app.consumer_generation_id
        current = [record for record in batch if record.message.generation_id == generation]
        if current:
            await self._work(current)
        for record in batch:
            if record.message.generation_id == generation:
                record.ack()
            else:
                self._app.consumer.unacked.discard(record.message)
