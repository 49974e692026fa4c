"""Quotas that go on, more roughly, while their store does not answer."""

from collections.abc import Callable, Sequence
from typing import Final

import structlog

from schemas.accounts import Account
from schemas.errors import Retryable
from schemas.limits import LimitWindow
from schemas.ports import Grant, Metrics, Quota, Reservation
from stream_processors.breaker import Breaker
from stream_processors.rate_limit.core import Plans, RateLimitSettings
from stream_processors.rate_limit.local_quota import LocalQuota

_LOG: Final = structlog.get_logger(__name__)


class FallbackQuota:
    """A ``Quota`` in front of another; while that fails, this process grants a share of each quota by itself.

    Settlements are not replaced: they wait for the store, where they mean nothing for turns that were granted here.
    """

    def __init__(
        self,
        quota: Quota,
        settings: RateLimitSettings,
        plans: Plans,
        metrics: Metrics,
        monotonic_s: Callable[[], float],
    ) -> None:
        self._quota = quota
        self._local = LocalQuota(settings, plans)
        self._breaker = Breaker(settings.redis_retry_s)
        self._metrics = metrics
        self._monotonic_s = monotonic_s

    async def reserve(self, reservations: Sequence[Reservation]) -> Sequence[Grant]:
        """As ``Quota.reserve``, but never raises Retryable."""
        if self._breaker.allows(self._monotonic_s()):
            try:
                grants = await self._quota.reserve(reservations)
            except Retryable as error:
                if self._breaker.fail(self._monotonic_s()):
                    _LOG.warning("rate_limit.quotas_local", error=str(error))
            else:
                if self._breaker.succeed():
                    _LOG.info("rate_limit.quotas_shared_again")
                return grants
        self._metrics.count("turnstream_dependency_failures_total", dependency="redis")
        return self._local.reserve(reservations, self._monotonic_s())

    async def settle(self, used: Sequence[tuple[Account, str, int]]) -> Sequence[tuple[LimitWindow, ...] | None]:
        """As ``Quota.settle``."""
        return await self._quota.settle(used)
