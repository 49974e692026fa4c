"""A Cassandra session that is not asked for a moment after it failed to answer: the port ``Cql``."""

from collections.abc import Callable, Sequence
from typing import Any

from schemas.errors import Retryable
from schemas.ports import Cql
from stream_processors.breaker import Breaker


class BreakingCql:
    """``Cql`` in front of another. For stages that can say no; whoever must wait for the store asks it directly."""

    def __init__(self, cql: Cql, retry_s: float, monotonic_s: Callable[[], float]) -> None:
        self._cql = cql
        self._breaker = Breaker(retry_s)
        self._monotonic_s = monotonic_s

    async def execute(self, query: str, values: Sequence[object] = ()) -> Sequence[Any]:
        """As ``Cql.execute``; raises Retryable at once for a moment after it was raised."""
        if not self._breaker.allows(self._monotonic_s()):
            raise Retryable("the store did not answer a moment ago")
        try:
            rows = await self._cql.execute(query, values)
        except Retryable:
            self._breaker.fail(self._monotonic_s())
            raise
        self._breaker.succeed()
        return rows
