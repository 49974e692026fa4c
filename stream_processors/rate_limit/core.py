"""What a turn costs, and what its account is told. Pure.

Each account has two leaky buckets, requests and tokens, and its tenant may have two more. What is used leaks
away evenly within ``PERIOD_S``. A turn fits into all of its buckets or is refused by all.
"""

import math
from collections.abc import Mapping
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.accounts import Account
from schemas.errors import ErrorBody, ErrorType, Refusal
from schemas.events import RateLimits, TurnAdmitted, TurnAuthorized, UsageRecorded
from schemas.ports import Emit, Grant
from schemas.topics import TURNS_ADMITTED
from stream_processors.outcomes import pass_on, refuse
from stream_processors.token_counts import estimate_tokens, message_tokens
from stream_processors.topology import RATE_LIMIT

PERIOD_S: Final = 60
RATE_LIMIT_CODE: Final = "rate_limit_exceeded"
_MS_PER_S: Final = 1_000


class PlanLimits(BaseModel):
    """The quotas of a plan. A tenant limit of None leaves the tenant as a whole unlimited."""

    model_config = ConfigDict(frozen=True)

    requests_per_minute: int = Field(ge=1)
    tokens_per_minute: int = Field(ge=1)
    tenant_requests_per_minute: int | None = Field(default=None, ge=1)
    tenant_tokens_per_minute: int | None = Field(default=None, ge=1)
    completion_tokens_default: int = Field(default=1_024, ge=1, description="Reserved when the client names none.")
    completion_tokens_max: int = Field(default=8_192, ge=1, description="Reserved at most; usage settles the rest.")

    @property
    def turn_tokens_max(self) -> int:
        """The largest reservation that can ever be granted."""
        return min(self.tokens_per_minute, self.tenant_tokens_per_minute or self.tokens_per_minute)


class RateLimitSettings(BaseModel):
    """Settings of the rate limit stage."""

    model_config = ConfigDict(frozen=True)

    plans: Mapping[str, PlanLimits] = Field(
        default={
            "free": PlanLimits(requests_per_minute=60, tokens_per_minute=60_000),
            "pro": PlanLimits(requests_per_minute=1_000, tokens_per_minute=1_000_000),
            "enterprise": PlanLimits(
                requests_per_minute=10_000,
                tokens_per_minute=10_000_000,
                tenant_requests_per_minute=60_000,
                tenant_tokens_per_minute=60_000_000,
            ),
        }
    )
    default_plan: str = Field(default="free", description="Whose limits hold for a plan that is not listed.")
    reservation_s: int = Field(default=900, ge=PERIOD_S, description="How long a turn's grant is remembered.")
    refusal_s: int = Field(default=60, ge=1, description="How long a turn's refusal is remembered.")
    # Less than the loop waits before it stops the process, which others need: ``RetryPolicy.total_seconds_max``.
    settlement_seconds_max: int = Field(
        default=2 * PERIOD_S,
        ge=PERIOD_S,
        le=240,
        description="A settlement that finds no Redis for so long is dropped: what it corrects has leaked away.",
    )
    redis_seconds_max: float = Field(default=0.5, gt=0, description="Wait for one round trip.")
    redis_retry_s: float = Field(default=2.0, gt=0, description="A Redis that did not answer is left alone so long.")
    fallback_share: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="Of each quota, that every process grants by itself while Redis does not answer. With n processes"
        " an account may get n times as much.",
    )
    fallback_entries_max: int = Field(default=100_000, ge=1, description="Accounts, and turns, remembered for that.")

    @model_validator(mode="after")
    def _default_is_listed(self) -> Self:
        if self.default_plan not in self.plans:
            raise ValueError("default_plan must be one of plans")
        return self

    def limits_of(self, plan: str) -> PlanLimits:
        """The limits of ``plan``, or of the default plan when it is not listed."""
        return self.plans.get(plan) or self.plans[self.default_plan]


def tokens_to_reserve(event: TurnAuthorized, limits: PlanLimits) -> int:
    """An estimate of the turn's own messages plus the completion that the client allows, within the plan."""
    prompt = sum(message_tokens(message, estimate_tokens) for message in event.input)
    allowed = event.turn.max_tokens or limits.completion_tokens_default
    return prompt + min(allowed, limits.completion_tokens_max)


def check_size(tokens: int, limits: PlanLimits) -> Refusal | None:
    """Refuse what no amount of waiting would let pass."""
    if tokens <= limits.turn_tokens_max:
        return None
    return _too_many_requests(
        f"Request too large for tokens per minute: Limit {limits.turn_tokens_max}, Requested {tokens}. "
        "The messages or max_tokens must be reduced for the request to succeed.",
        PERIOD_S * 1_000,
    )


def decide(event: TurnAuthorized, tokens: int, grant: Grant) -> Emit:
    """The admitted turn with its reservation, or its refusal. Raises Malformed for a turn id without partition."""
    if grant.scope is not None:
        refusal = _over_limit(grant.scope, tokens, grant)
        return refuse(event.turn, RATE_LIMIT.name, refusal, grant.limits)
    admitted = TurnAdmitted(
        turn=event.turn,
        account=event.account,
        pool=event.pool,
        served_model=event.served_model,
        fallbacks=event.fallbacks,
        message_seq=event.message_seq,
        input=event.input,
        limits=grant.limits,
        reserved_tokens=tokens,
    )
    return pass_on(TURNS_ADMITTED, event.turn, admitted)


def used_by(event: UsageRecorded) -> tuple[Account, str, int]:
    """What ``Quota.settle`` wants to know: the account, the turn id and the tokens that were really used."""
    account = Account(tenant_id=event.tenant_id, user_id=event.user_id, key_id=event.key_id, plan=event.plan)
    return account, event.turn_id, event.usage.prompt_tokens + event.usage.completion_tokens


def settles_something(event: UsageRecorded, now_ms: int, settings: RateLimitSettings) -> bool:
    """Whether the buckets still hold enough of the turn's reservation to wait for its settlement."""
    return now_ms - event.recorded_at_ms <= settings.settlement_seconds_max * _MS_PER_S


def _over_limit(scope: str, tokens: int, grant: Grant) -> Refusal:
    limits = grant.limits
    limit, used, requested = _figures(scope, tokens, limits)
    wait_s = f"{math.ceil(grant.retry_after_ms / 100) / 10:g}"
    return _too_many_requests(
        f"Rate limit reached for {scope}: Limit {limit}, Used {used}, Requested {requested}. "
        f"Please try again in {wait_s}s.",
        grant.retry_after_ms,
    )


def _figures(scope: str, tokens: int, limits: RateLimits) -> tuple[int, int, int]:
    if scope == "requests":
        return limits.limit_requests, limits.limit_requests - limits.remaining_requests, 1
    return limits.limit_tokens, limits.limit_tokens - limits.remaining_tokens, tokens


def _too_many_requests(message: str, retry_after_ms: int) -> Refusal:
    return Refusal(
        status=429,
        error=ErrorBody(message=message, type=ErrorType.RATE_LIMIT, code=RATE_LIMIT_CODE),
        retry_after_s=max(1, math.ceil(retry_after_ms / 1_000)),
    )
