import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from schemas.at_once import at_once
from schemas.errors import Fatal, Malformed, Retryable


async def fails(error: Exception) -> int:
    raise error


async def test_all_run_side_by_side_and_their_results_come_in_order() -> None:
    steps = [asyncio.Event() for _ in range(3)]

    async def after_the_next(number: int) -> int:
        if number + 1 < len(steps):
            await steps[number + 1].wait()
        steps[number].set()
        return number

    assert await at_once(after_the_next(number) for number in range(3)) == [0, 1, 2]


async def test_nothing_to_do_has_no_results() -> None:
    assert await at_once([]) == []


async def test_a_failure_cancels_the_others() -> None:
    cancelled: list[int] = []

    async def wait_for_ever(number: int) -> int:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(number)
            raise
        return number

    with pytest.raises(Retryable, match="one of 3 calls failed: the store is away"):
        await at_once([wait_for_ever(1), fails(Retryable("the store is away")), wait_for_ever(3)])
    assert sorted(cancelled) == [1, 3]


@pytest.mark.parametrize("error", [Fatal("no such table"), Malformed("a mistake"), ValueError("a bug")])
async def test_another_error_comes_as_itself_whatever_else_failed(error: Exception) -> None:
    with pytest.raises(type(error), match=str(error)):
        await at_once([fails(Retryable("the store is away")), fails(error)])


async def test_fatal_wins_over_every_other_error() -> None:
    with pytest.raises(Fatal, match="no such table"):
        await at_once([fails(Retryable("away")), fails(ValueError("a bug")), fails(Fatal("no such table"))])


async def test_a_cancelled_caller_cancels_the_calls_and_stays_cancelled() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def wait_for_ever() -> int:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return 0

    task = asyncio.create_task(at_once([wait_for_ever()]))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


@pytest.mark.parametrize("failing", [1, 2])
async def test_a_failure_leaves_no_cancellation_behind(failing: int) -> None:
    # Python 3.11 and 3.12 count one too many when a task of a group fails while the group waits at its end; the next
    # timeout of the same task that expires then ends the task.
    calls: list[Coroutine[Any, Any, int]] = [fails(Retryable("down")) for _ in range(failing)]
    with pytest.raises(Retryable):
        await at_once(calls)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await asyncio.Event().wait()
