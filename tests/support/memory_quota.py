"""Quotas in memory: the same leaky buckets as the Lua scripts, on a clock that the test moves."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from schemas.accounts import Account
from schemas.errors import Retryable
from schemas.limits import LimitWindow
from schemas.plans import DEFAULT_PLANS, Plan, plan_of
from schemas.ports import Grant, Lost, Reservation
from stream_processors.rate_limit.core import RateLimitSettings
from stream_processors.rate_limit.quotas import MS_PER_S, USED_LIMITS_MAX, Bound, bounds_of, running_window, subject_of

ROUNDING = 1e-6
RUNNING_RETRY_MS = 1_000


@dataclass
class Bucket:
    """What is used of a limit, as of ``at_s``; it leaks away evenly within the period."""

    bound: Bound
    used: float = 0.0
    at_s: float = 0.0

    def leak(self, bound: Bound, now_s: float) -> None:
        self.bound = bound
        used = min(self.used, USED_LIMITS_MAX * bound.limit)
        self.used = max(0.0, used - max(0.0, now_s - self.at_s) * bound.limit / bound.period_s)
        self.at_s = now_s

    def add(self, units: float) -> None:
        self.used = max(0.0, min(self.used + units, USED_LIMITS_MAX * self.bound.limit))

    def correct(self, took: float, used: float, since_s: float) -> None:
        units = used - took
        if units < 0:
            units *= max(0.0, 1 - (self.at_s - since_s) / self.bound.period_s)
        self.add(units)

    def wait_ms(self, cost: float) -> int:
        excess = self.used + cost - self.bound.limit
        return 0 if excess <= ROUNDING else math.ceil(excess * self.bound.period_s * MS_PER_S / self.bound.limit)

    def window(self) -> LimitWindow:
        reset_ms = math.ceil(self.used * self.bound.period_s * MS_PER_S / self.bound.limit)
        return self.bound.window(max(0, math.ceil(self.used - ROUNDING)), reset_ms)

    def is_of(self, kind: str) -> bool:
        return self.bound.kind == kind


@dataclass(frozen=True)
class Held:
    """What a running turn has reserved."""

    key_id: str
    tokens: int
    since_s: float
    until_s: float


@dataclass
class Remembered:
    """What a turn was answered, and until when that is remembered."""

    grant: Grant
    until_s: float
    buckets: Sequence[Bucket] = ()
    settled: tuple[LimitWindow, ...] | None = None
    used: int = 0


@dataclass
class MemoryQuota:
    """The ``Quota`` over dictionaries. ``down``: every call raises Retryable. ``now_s`` is the test's to move."""

    settings: RateLimitSettings = field(default_factory=RateLimitSettings)
    plans: Mapping[str, Plan] = field(default_factory=lambda: DEFAULT_PLANS)
    now_s: float = 0.0
    down: bool = False
    _buckets: dict[tuple[str, ...], Bucket] = field(default_factory=dict)
    _running: dict[tuple[str, str], dict[str, Held]] = field(default_factory=dict)
    _remembered: dict[tuple[str, str], Remembered] = field(default_factory=dict)

    async def reserve(self, reservations: Sequence[Reservation]) -> Sequence[Grant]:
        self._check_up()
        return [self._reserve(reservation) for reservation in reservations]

    async def settle(self, used: Sequence[tuple[Account, str, int]]) -> Sequence[tuple[LimitWindow, ...] | None]:
        self._check_up()
        return [self._settle(*each) for each in used]

    def _reserve(self, asked: Reservation) -> Grant:
        key = (asked.account.tenant_id, asked.turn_id)
        known = self._remembered.get(key)
        if known is not None and self.now_s < known.until_s:
            return known.grant
        plan = plan_of(self.plans, asked.account.plan)
        buckets = [self._bucket(asked.account, bound) for bound in bounds_of(plan, asked.account)]
        running = self._running.setdefault((asked.account.tenant_id, asked.account.user_id), {})
        lost = self._give_up(running, buckets)
        refused_by, wait_ms = _refused_by(buckets, asked.tokens)
        if refused_by is None and plan.concurrent_turns_max is not None and len(running) >= plan.concurrent_turns_max:
            (refused_by,), wait_ms = running_window(len(running), plan.concurrent_turns_max), RUNNING_RETRY_MS
        if refused_by is None:
            for bucket in buckets:
                bucket.add(1 if bucket.is_of("requests") else asked.tokens)
            until_s = self.now_s + asked.hold_ms / MS_PER_S
            running[asked.turn_id] = Held(asked.account.key_id, asked.tokens, self.now_s, until_s)
        windows = (*(each.window() for each in buckets), *running_window(len(running), plan.concurrent_turns_max))
        grant = Grant(windows, refused_by, wait_ms, lost)
        kept_s = self.settings.reservation_s if refused_by is None else self.settings.refusal_s
        self._remembered[key] = Remembered(grant, self.now_s + kept_s, buckets)
        return grant

    def _settle(self, account: Account, turn_id: str, tokens: int) -> tuple[LimitWindow, ...] | None:
        known = self._remembered.get((account.tenant_id, turn_id))
        if known is None or known.until_s <= self.now_s or known.grant.refused_by is not None:
            return None
        if known.settled is not None and known.used >= tokens:
            return known.settled
        running = self._running[account.tenant_id, account.user_id]
        held = running.pop(turn_id, None)
        for bucket in known.buckets:
            bucket.leak(bucket.bound, self.now_s)
            used = 1 if bucket.is_of("requests") else tokens
            took = 0 if held is None else 1 if bucket.is_of("requests") else held.tokens
            if known.settled is not None:
                took = 1 if bucket.is_of("requests") else known.used
            bucket.correct(took, used, self.now_s if held is None else held.since_s)
        turns_max = plan_of(self.plans, account.plan).concurrent_turns_max
        known.used = tokens
        known.settled = (*(each.window() for each in known.buckets), *running_window(len(running), turns_max))
        return known.settled

    def _give_up(self, running: dict[str, Held], buckets: Sequence[Bucket]) -> tuple[Lost, ...]:
        gone = {turn_id: held for turn_id, held in running.items() if held.until_s <= self.now_s}
        for turn_id, held in gone.items():
            for bucket in (bucket for bucket in buckets if bucket.bound.scope == "user"):
                bucket.correct(1 if bucket.is_of("requests") else held.tokens, 0, held.since_s)
            del running[turn_id]
        return tuple(Lost(turn_id, held.key_id, held.tokens) for turn_id, held in gone.items())

    def _bucket(self, account: Account, bound: Bound) -> Bucket:
        key = (account.tenant_id, subject_of(bound.scope, account), bound.kind, bound.period)
        bucket = self._buckets.setdefault(key, Bucket(bound, at_s=self.now_s))
        bucket.leak(bound, self.now_s)
        return bucket

    def _check_up(self) -> None:
        if self.down:
            raise Retryable("the memory quota is down")


def _refused_by(buckets: Sequence[Bucket], tokens: int) -> tuple[LimitWindow | None, int]:
    waits = [(bucket.wait_ms(1 if bucket.is_of("requests") else tokens), bucket) for bucket in buckets]
    wait_ms, longest = max(waits, key=lambda each: each[0])
    return (longest.window(), wait_ms) if wait_ms > 0 else (None, 0)
