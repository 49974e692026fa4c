"""Quotas of one process alone, for while nobody can be asked. Pure.

The buckets of ``quotas``, smaller: a share of each limit. An empty bucket takes any turn that the whole one could take.
Running turns are not counted here.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from schemas.limits import LimitWindow
from schemas.plans import plan_of
from schemas.ports import Grant, Reservation
from stream_processors.rate_limit.core import Plans, RateLimitSettings
from stream_processors.rate_limit.quotas import MS_PER_S, USED_LIMITS_MAX, Bound, bounds_of, subject_of

_Asked = tuple[Bound, "_Bucket"]


@dataclass(slots=True)
class _Bucket:
    """What was used of a limit and has not leaked away."""

    period_s: int
    limit: float = 1.0
    used: float = 0.0
    at_s: float = 0.0

    def leak(self, limit: float, now_s: float) -> None:
        self.limit = limit
        # The limit may have been a higher one before.
        self.used = max(0.0, min(self.used, USED_LIMITS_MAX * limit) - limit * (now_s - self.at_s) / self.period_s)
        self.at_s = now_s

    def wait_s(self, amount: float) -> float:
        """Until ``amount`` fits."""
        excess = self.used + amount - max(self.limit, amount)
        return max(0.0, excess) * self.period_s / self.limit


class LocalQuota:
    """Grants by account and turn id, in bounded memory: whoever was not seen for longest is forgotten."""

    def __init__(self, settings: RateLimitSettings, plans: Plans) -> None:
        self._settings = settings
        self._plans = plans
        self._buckets: OrderedDict[tuple[str, ...], _Bucket] = OrderedDict()
        self._grants: OrderedDict[str, Grant] = OrderedDict()

    def reserve(self, reservations: Sequence[Reservation], now_s: float) -> Sequence[Grant]:
        """One grant per reservation, in order; the same turn id gets the same grant again."""
        return [self._grant(asked, now_s) for asked in reservations]

    def _grant(self, asked: Reservation, now_s: float) -> Grant:
        known = self._grants.get(asked.turn_id)
        if known is not None:
            return known
        bounds = bounds_of(plan_of(self._plans, asked.account.plan), asked.account)
        grant = _decide([(bound, self._bucket(asked, bound, now_s)) for bound in bounds], asked.tokens)
        self._grants[asked.turn_id] = grant
        if len(self._grants) > self._settings.fallback_entries_max:
            self._grants.popitem(last=False)
        return grant

    def _bucket(self, asked: Reservation, bound: Bound, now_s: float) -> _Bucket:
        key = (asked.account.tenant_id, subject_of(bound.scope, asked.account), bound.kind, bound.period)
        bucket = self._buckets.pop(key, None) or _Bucket(bound.period_s)
        self._buckets[key] = bucket
        if len(self._buckets) > self._settings.fallback_entries_max:
            self._buckets.popitem(last=False)
        bucket.leak(bound.limit * self._settings.fallback_share, now_s)
        return bucket


def _decide(asked: Sequence[_Asked], tokens: int) -> Grant:
    """Take from all buckets or from none."""
    costs = [1 if bound.kind == "requests" else tokens for bound, _ in asked]
    waits_s = [bucket.wait_s(cost) for (_, bucket), cost in zip(asked, costs, strict=True)]
    longest = max(range(len(asked)), key=waits_s.__getitem__)
    if waits_s[longest] > 0:
        windows = tuple(_window(*each) for each in asked)
        return Grant(windows, windows[longest], ceil(waits_s[longest] * MS_PER_S))
    for (_, bucket), cost in zip(asked, costs, strict=True):
        bucket.used += cost
    return Grant(tuple(_window(*each) for each in asked))


def _window(bound: Bound, bucket: _Bucket) -> LimitWindow:
    """As the whole quota would look with only the share's rest left."""
    left = max(0, int(bucket.limit - bucket.used))
    reset_ms = ceil(bucket.used * bucket.period_s / bucket.limit * MS_PER_S)
    return bound.window(max(0, bound.limit - left), reset_ms)
