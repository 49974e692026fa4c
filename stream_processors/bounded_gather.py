"""Many small calls at once: the round trips of a batch overlap instead of adding up."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from schemas.at_once import at_once
from schemas.ports import Cql

T = TypeVar("T")


async def gather_bounded(calls: Sequence[Callable[[], Awaitable[T]]], in_flight_max: int) -> Sequence[T]:
    """The results of ``calls``, in order; at most ``in_flight_max`` run at a time.

    When one of them raises, the others are cancelled. Raises as ``at_once``.
    """
    slots = asyncio.Semaphore(in_flight_max)

    async def run(call: Callable[[], Awaitable[T]]) -> T:
        async with slots:
            return await call()

    return await at_once(run(call) for call in calls)


async def execute_each(
    cql: Cql, query: str, values: Sequence[Sequence[object]], in_flight_max: int
) -> Sequence[Sequence[Any]]:
    """The rows of the single-partition ``query`` for each element of ``values``, in order. Raises Retryable."""

    def call_for(row_values: Sequence[object]) -> Callable[[], Awaitable[Sequence[Any]]]:
        return lambda: cql.execute(query, row_values)

    return await gather_bounded([call_for(row_values) for row_values in values], in_flight_max)
