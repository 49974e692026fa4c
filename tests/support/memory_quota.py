"""Quotas in memory: the same leaky buckets as the Lua scripts, on a clock that the test moves."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from schemas.accounts import Account
from schemas.errors import Retryable
from schemas.events import RateLimits
from schemas.ports import Grant, Reservation
from stream_processors.rate_limit.core import PERIOD_S, RateLimitSettings

USED_LIMITS_MAX = 2
ROUNDING = 1e-6


@dataclass
class Bucket:
    """What is used of a limit, as of ``at_s``; it leaks away evenly within the period."""

    used: float = 0.0
    at_s: float = 0.0

    def leak(self, limit: int, now_s: float) -> None:
        self.used = max(0.0, self.used - max(0.0, now_s - self.at_s) * limit / PERIOD_S)
        self.at_s = now_s

    def add(self, units: float, limit: int) -> None:
        self.used = max(0.0, min(self.used + units, USED_LIMITS_MAX * limit))


@dataclass(frozen=True)
class Metered:
    """A bucket with the limit that holds for it in this call."""

    bucket: Bucket
    limit: int
    cost: float

    @property
    def remaining(self) -> int:
        return max(0, math.floor(self.limit - self.bucket.used + ROUNDING))

    @property
    def reset_ms(self) -> int:
        return math.ceil(self.bucket.used * PERIOD_S * 1_000 / self.limit)

    @property
    def wait_ms(self) -> float:
        excess = self.bucket.used + self.cost - self.limit
        return 0.0 if excess <= ROUNDING else excess * PERIOD_S * 1_000 / self.limit


@dataclass
class Held:
    """What a turn was answered, until when that is remembered, and what it holds."""

    grant: Grant
    until_s: float
    tokens: int | None


@dataclass
class MemoryQuota:
    """The ``Quota`` over dictionaries. ``down``: every call raises Retryable. ``now_s`` is the test's to move."""

    settings: RateLimitSettings = field(default_factory=RateLimitSettings)
    now_s: float = 0.0
    down: bool = False
    _buckets: dict[tuple[str, str, str], Bucket] = field(default_factory=dict)
    _held: dict[tuple[str, str], Held] = field(default_factory=dict)

    async def reserve(self, reservations: Sequence[Reservation]) -> Sequence[Grant]:
        self._check_up()
        return [self._reserve(reservation) for reservation in reservations]

    async def settle(self, used: Sequence[tuple[Account, str, int]]) -> None:
        self._check_up()
        for account, turn_id, tokens in used:
            held = self._held.get((account.tenant_id, turn_id))
            if held is None or held.tokens is None or held.until_s <= self.now_s:
                continue
            for metered in self._metered(account, "tokens", 0):
                metered.bucket.add(tokens - held.tokens, metered.limit)
            held.tokens = None

    def _reserve(self, reservation: Reservation) -> Grant:
        key = (reservation.account.tenant_id, reservation.turn_id)
        held = self._held.get(key)
        if held is not None and self.now_s < held.until_s:
            return held.grant
        requests = self._metered(reservation.account, "requests", 1)
        tokens = self._metered(reservation.account, "tokens", reservation.tokens)
        waits = {
            scope: max(metered.wait_ms for metered in buckets)
            for scope, buckets in (("requests", requests), ("tokens", tokens))
        }
        scope = next((scope for scope, wait_ms in waits.items() if wait_ms > 0), None)
        if scope is None:
            for metered in (*requests, *tokens):
                metered.bucket.add(metered.cost, metered.limit)
        grant = Grant(_limits(requests, tokens), scope, math.ceil(max(waits.values())))
        kept_s = self.settings.reservation_s if scope is None else self.settings.refusal_s
        self._held[key] = Held(grant, self.now_s + kept_s, reservation.tokens if scope is None else None)
        return grant

    def _metered(self, account: Account, kind: str, cost: float) -> list[Metered]:
        limits = self.settings.limits_of(account.plan)
        of_tenant = limits.tenant_requests_per_minute if kind == "requests" else limits.tenant_tokens_per_minute
        of_user = limits.requests_per_minute if kind == "requests" else limits.tokens_per_minute
        found = []
        for subject, limit in ((f"user:{account.user_id}", of_user), ("tenant", of_tenant)):
            if limit is not None:
                bucket = self._buckets.setdefault((account.tenant_id, subject, kind), Bucket(at_s=self.now_s))
                bucket.leak(limit, self.now_s)
                found.append(Metered(bucket, limit, cost))
        return found

    def _check_up(self) -> None:
        if self.down:
            raise Retryable("the memory quota is down")


def _limits(requests: Sequence[Metered], tokens: Sequence[Metered]) -> RateLimits:
    tight_requests = min(requests, key=lambda metered: metered.remaining)
    tight_tokens = min(tokens, key=lambda metered: metered.remaining)
    return RateLimits(
        limit_requests=tight_requests.limit,
        remaining_requests=tight_requests.remaining,
        reset_requests_ms=tight_requests.reset_ms,
        limit_tokens=tight_tokens.limit,
        remaining_tokens=tight_tokens.remaining,
        reset_tokens_ms=tight_tokens.reset_ms,
    )
