"""Which quotas hold for an account, and what it is told of them. Pure.

Every quota is a leaky bucket: what is used leaks away evenly within its period, so that a full one is whole again
after one period and nobody waits for midnight.
"""

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

from schemas.accounts import Account
from schemas.events import RateLimits
from schemas.limits import LimitWindow
from schemas.plans import Plan

Scope = Literal["user", "tenant", "key"]
Kind = Literal["requests", "tokens"]
Period = Literal["minute", "day"]

# What is used beyond so many times a limit is forgiven; ``buckets.lua`` has the same.
USED_LIMITS_MAX: Final = 2
PERIODS_S: Final[dict[Period, int]] = {"minute": 60, "day": 86_400}
MS_PER_S: Final = 1_000


class Bound(NamedTuple):
    """One quota of an account."""

    scope: Scope
    kind: Kind
    period: Period
    limit: int

    @property
    def period_s(self) -> int:
        """In how many seconds a full bucket leaks away."""
        return PERIODS_S[self.period]

    def window(self, used: int, reset_ms: int) -> LimitWindow:
        """The quota with so much of it used, whole again after ``reset_ms``."""
        return LimitWindow(
            scope=self.scope, kind=self.kind, period=self.period, limit=self.limit, used=used, reset_ms=reset_ms
        )


def bounds_of(plan: Plan, account: Account) -> tuple[Bound, ...]:
    """Every quota that a turn of ``account`` takes from: of the user, of the tenant, of the API key."""
    key = account.limits
    requests = (
        plan.requests_per_minute if account.slowed_to is None else min(plan.requests_per_minute, account.slowed_to)
    )
    found: tuple[tuple[Scope, Kind, Period, int | None], ...] = (
        ("user", "requests", "minute", requests),
        ("user", "requests", "day", plan.requests_per_day),
        ("user", "tokens", "minute", plan.tokens_per_minute),
        ("user", "tokens", "day", plan.tokens_per_day),
        ("tenant", "requests", "minute", plan.tenant_requests_per_minute),
        ("tenant", "tokens", "minute", plan.tenant_tokens_per_minute),
        ("key", "requests", "minute", key.requests_per_minute if key else None),
        ("key", "tokens", "minute", key.tokens_per_minute if key else None),
    )
    return tuple(Bound(scope, kind, period, limit) for scope, kind, period, limit in found if limit is not None)


def subject_of(scope: Scope, account: Account) -> str:
    """Whose bucket it is, inside the tenant."""
    match scope:
        case "user":
            return f"user:{account.user_id}"
        case "key":
            return f"key:{account.key_id}"
    return "tenant"


def running_window(running: int, turns_max: int | None) -> tuple[LimitWindow, ...]:
    """The user's running turns as a quota; none where the plan sets no limit."""
    if turns_max is None:
        return ()
    return (LimitWindow(scope="user", kind="concurrent_turns", limit=turns_max, used=running),)


def rate_limits(windows: Sequence[LimitWindow]) -> RateLimits:
    """What clients are told: of requests and of tokens the quota that leaves the least."""
    requests, tokens = _tightest(windows, "requests"), _tightest(windows, "tokens")
    return RateLimits(
        limit_requests=requests.limit,
        remaining_requests=remaining(requests),
        reset_requests_ms=requests.reset_ms,
        limit_tokens=tokens.limit,
        remaining_tokens=remaining(tokens),
        reset_tokens_ms=tokens.reset_ms,
    )


def remaining(window: LimitWindow) -> int:
    """What is left of a quota; debts leave nothing."""
    return max(0, window.limit - window.used)


def _tightest(windows: Sequence[LimitWindow], kind: Kind) -> LimitWindow:
    return min([window for window in windows if window.kind == kind], key=remaining)
