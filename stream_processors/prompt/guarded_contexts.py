"""Hot contexts that are not asked for a moment after they failed to answer."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from schemas.errors import Retryable
from schemas.ports import Metrics, StoredMessage
from stream_processors.breaker import Breaker
from stream_processors.prompt.core import HotContexts

T = TypeVar("T")


class GuardedContexts:
    """``HotContexts`` in front of others: while those fail, Retryable comes at once instead of after their deadline."""

    def __init__(
        self, contexts: HotContexts, retry_s: float, metrics: Metrics, monotonic_s: Callable[[], float]
    ) -> None:
        self._contexts = contexts
        self._breaker = Breaker(retry_s)
        self._metrics = metrics
        self._monotonic_s = monotonic_s

    async def read(self, conversation_ids: Sequence[str]) -> Mapping[str, Sequence[StoredMessage]]:
        """As ``HotContexts.read``."""
        return await self._ask(lambda: self._contexts.read(conversation_ids))

    async def begin_rebuild(self, conversation_ids: Sequence[str]) -> str:
        """As ``HotContexts.begin_rebuild``."""
        return await self._ask(lambda: self._contexts.begin_rebuild(conversation_ids))

    async def finish_rebuild(self, token: str, contexts: Mapping[str, Sequence[StoredMessage]]) -> None:
        """As ``HotContexts.finish_rebuild``."""
        await self._ask(lambda: self._contexts.finish_rebuild(token, contexts))

    async def _ask(self, call: Callable[[], Awaitable[T]]) -> T:
        if not self._breaker.allows(self._monotonic_s()):
            raise Retryable("the hot contexts did not answer a moment ago")
        try:
            answer = await call()
        except Retryable:
            self._metrics.count("turnstream_dependency_failures_total", dependency="redis")
            self._breaker.fail(self._monotonic_s())
            raise
        self._breaker.succeed()
        return answer
