"""Quotas of one process alone, for while nobody can be asked. Pure.

The buckets of ``core``, smaller: a share of each limit. An empty bucket takes any turn that the whole one could take.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final

from schemas.events import RateLimits
from schemas.ports import Grant, Reservation
from stream_processors.rate_limit.core import PERIOD_S, PlanLimits, RateLimitSettings

_MS_PER_S: Final = 1_000


@dataclass(slots=True)
class _Bucket:
    """What was used of a limit and has not leaked away."""

    limit: float = 1.0
    used: float = 0.0
    at_s: float = 0.0

    def leak(self, limit: float, now_s: float) -> None:
        self.limit = limit
        self.used = max(0.0, self.used - limit * (now_s - self.at_s) / PERIOD_S)
        self.at_s = now_s

    def wait_s(self, amount: float) -> float:
        """Until ``amount`` fits."""
        excess = self.used + amount - max(self.limit, amount)
        return max(0.0, excess) * PERIOD_S / self.limit


class LocalQuota:
    """Grants by account and turn id, in bounded memory: whoever was not seen for longest is forgotten."""

    def __init__(self, settings: RateLimitSettings) -> None:
        self._settings = settings
        self._buckets: OrderedDict[tuple[str, str], tuple[_Bucket, _Bucket]] = OrderedDict()
        self._grants: OrderedDict[str, Grant] = OrderedDict()

    def reserve(self, reservations: Sequence[Reservation], now_s: float) -> Sequence[Grant]:
        """One grant per reservation, in order; the same turn id gets the same grant again."""
        return [self._grant(asked, now_s) for asked in reservations]

    def _grant(self, asked: Reservation, now_s: float) -> Grant:
        known = self._grants.get(asked.turn_id)
        if known is not None:
            return known
        account, limits = asked.account, self._settings.limits_of(asked.account.plan)
        subjects = [self._subject(account.tenant_id, f"user:{account.user_id}", *_of_user(limits), now_s)]
        if (tenant := _of_tenant(limits)) is not None:
            subjects.append(self._subject(account.tenant_id, "tenant", *tenant, now_s))
        grant = _decide(subjects, asked.tokens, limits)
        self._grants[asked.turn_id] = grant
        if len(self._grants) > self._settings.fallback_entries_max:
            self._grants.popitem(last=False)
        return grant

    def _subject(self, tenant_id: str, name: str, requests: int, tokens: int, now_s: float) -> tuple[_Bucket, _Bucket]:
        share = self._settings.fallback_share
        buckets = self._buckets.pop((tenant_id, name), None) or (_Bucket(), _Bucket())
        self._buckets[tenant_id, name] = buckets
        if len(self._buckets) > self._settings.fallback_entries_max:
            self._buckets.popitem(last=False)
        for bucket, limit in zip(buckets, (requests, tokens), strict=True):
            bucket.leak(limit * share, now_s)
        return buckets


def _decide(subjects: Sequence[tuple[_Bucket, _Bucket]], tokens: int, limits: PlanLimits) -> Grant:
    """Take from all buckets or from none."""
    waits = {
        "requests": max(requests.wait_s(1) for requests, _ in subjects),
        "tokens": max(used.wait_s(tokens) for _, used in subjects),
    }
    scope = max(waits, key=lambda name: waits[name])
    if waits[scope] > 0:
        return Grant(_limits(subjects[0], limits), scope, ceil(waits[scope] * _MS_PER_S))
    for requests, used in subjects:
        requests.used += 1
        used.used += tokens
    return Grant(_limits(subjects[0], limits))


def _limits(user: tuple[_Bucket, _Bucket], limits: PlanLimits) -> RateLimits:
    requests, tokens = user
    return RateLimits(
        limit_requests=limits.requests_per_minute,
        remaining_requests=max(0, int(requests.limit - requests.used)),
        reset_requests_ms=_reset_ms(requests),
        limit_tokens=limits.tokens_per_minute,
        remaining_tokens=max(0, int(tokens.limit - tokens.used)),
        reset_tokens_ms=_reset_ms(tokens),
    )


def _reset_ms(bucket: _Bucket) -> int:
    return ceil(bucket.used * PERIOD_S / bucket.limit * _MS_PER_S)


def _of_user(limits: PlanLimits) -> tuple[int, int]:
    return limits.requests_per_minute, limits.tokens_per_minute


def _of_tenant(limits: PlanLimits) -> tuple[int, int] | None:
    requests, tokens = limits.tenant_requests_per_minute, limits.tenant_tokens_per_minute
    if requests is None and tokens is None:
        return None
    # What is not limited is limited by the users of the tenant.
    return requests or 1_000_000_000, tokens or 1_000_000_000
