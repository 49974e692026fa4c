import asyncio
from collections.abc import Awaitable, Callable

import pytest

from schemas.errors import Retryable
from stream_processors.bounded_gather import gather_bounded

FULL = 3


class Crowd:
    """Calls that count how many of them run at once, and end when they are told."""

    def __init__(self) -> None:
        self.running = 0
        self.running_max = 0
        self.cancelled = 0
        self.go_on = asyncio.Event()
        self.full = asyncio.Event()

    def call(self, number: int) -> Callable[[], Awaitable[int]]:
        async def run() -> int:
            self.running += 1
            self.running_max = max(self.running_max, self.running)
            if self.running == FULL:
                self.full.set()
            try:
                await self.go_on.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
            self.running -= 1
            return number

        return run


def failing(error: Exception) -> Callable[[], Awaitable[int]]:
    async def run() -> int:
        raise error

    return run


async def test_results_come_in_order() -> None:
    crowd = Crowd()
    crowd.go_on.set()
    assert list(await gather_bounded([crowd.call(number) for number in range(9)], 2)) == list(range(9))


async def test_as_many_as_allowed_run_at_once() -> None:
    crowd = Crowd()
    async with asyncio.TaskGroup() as group:
        gathering = group.create_task(gather_bounded([crowd.call(number) for number in range(9)], FULL))
        async with asyncio.timeout(5):
            await crowd.full.wait()
        crowd.go_on.set()
    assert (crowd.running_max, list(gathering.result())) == (FULL, list(range(9)))


async def test_one_retryable_call_ends_them_all_as_one_retryable() -> None:
    crowd = Crowd()
    with pytest.raises(Retryable, match="the store is away"):
        await gather_bounded([crowd.call(1), failing(Retryable("the store is away"))], 2)
    assert crowd.cancelled == 1
