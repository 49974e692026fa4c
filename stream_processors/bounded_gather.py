"""Many small calls at once: the round trips of a batch overlap instead of adding up."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from schemas.errors import Fatal, Retryable
from schemas.ports import Cql

T = TypeVar("T")


async def gather_bounded(calls: Sequence[Callable[[], Awaitable[T]]], in_flight_max: int) -> Sequence[T]:
    """The results of ``calls``, in order; at most ``in_flight_max`` run at a time.

    When one of them raises, the others are cancelled. Raises Retryable, or the first of whatever else was raised:
    Fatal must not hide in a group, nor behind a Retryable.
    """
    slots = asyncio.Semaphore(in_flight_max)

    async def run(call: Callable[[], Awaitable[T]]) -> T:
        async with slots:
            return await call()

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(run(call)) for call in calls]
            if tasks:
                # Waited for inside: a failure while the group waits at its end would be counted as a cancellation of
                # this task for good (Python before 3.13), and a later timeout of it would end as one.
                await asyncio.wait(tasks)
    except ExceptionGroup as failures:
        raise _one_of(failures, len(calls)) from failures
    return [task.result() for task in tasks]


def _one_of(failures: ExceptionGroup[Exception], calls: int) -> Exception:
    _, others = failures.split(Retryable)
    if others is not None:
        fatal = others.subgroup(Fatal)
        return (fatal or others).exceptions[0]
    return Retryable(f"one of {calls} calls of the batch failed: {failures.exceptions[0]}")


async def execute_each(
    cql: Cql, query: str, values: Sequence[Sequence[object]], in_flight_max: int
) -> Sequence[Sequence[Any]]:
    """The rows of the single-partition ``query`` for each element of ``values``, in order. Raises Retryable."""

    def call_for(row_values: Sequence[object]) -> Callable[[], Awaitable[Sequence[Any]]]:
        return lambda: cql.execute(query, row_values)

    return await gather_bounded([call_for(row_values) for row_values in values], in_flight_max)
