"""What a turn costs, and what its account is told. Pure.

A turn fits into all quotas of its account (``quotas``) or is refused by all.
"""

import math
from collections.abc import Mapping
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from schemas.accounts import Account
from schemas.errors import ErrorBody, ErrorType, Refusal
from schemas.events import TurnAdmitted, TurnAuthorized, UsageRecorded
from schemas.limits import LimitWindow
from schemas.plans import Plan
from schemas.ports import Emit, Grant
from schemas.topics import TURNS_ADMITTED
from stream_processors.outcomes import pass_on, refuse
from stream_processors.rate_limit.quotas import MS_PER_S, rate_limits
from stream_processors.token_counts import estimate_tokens, message_tokens
from stream_processors.topology import RATE_LIMIT

Plans = Mapping[str, Plan]

PERIOD_S: Final = 60
RATE_LIMIT_CODE: Final = "rate_limit_exceeded"
DAY_CODE: Final = "insufficient_quota"
RUNNING_CODE: Final = "concurrent_turns_exceeded"


class RateLimitSettings(BaseModel):
    """Settings of the rate limit stage; the quotas themselves are in ``plans``."""

    model_config = ConfigDict(frozen=True)

    reservation_s: int = Field(default=900, ge=PERIOD_S, description="How long a turn's grant is remembered.")
    refusal_s: int = Field(default=60, ge=1, description="How long a turn's refusal is remembered.")
    settle_grace_s: int = Field(
        default=30,
        ge=1,
        description="A turn that nobody settled so long after its deadline is lost: what it reserved is given back.",
    )
    # Less than the loop waits before it stops the process, which others need: ``RetryPolicy.total_seconds_max``.
    settlement_seconds_max: int = Field(
        default=2 * PERIOD_S,
        ge=PERIOD_S,
        le=240,
        description="A settlement that finds no Redis for so long is dropped: what it corrects is given back anyway.",
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


def tokens_to_reserve(event: TurnAuthorized, plan: Plan) -> int:
    """An estimate of the turn's own messages plus the completions that the client allows, within the plan."""
    turn = event.turn
    prompt = sum(message_tokens(message, estimate_tokens) for message in event.input)
    if turn.instructions is not None:
        prompt += estimate_tokens(turn.instructions.text)
    allowed = min(turn.max_tokens or plan.completion_tokens_default, plan.completion_tokens_max)
    if plan.output_tokens_max is not None:
        allowed = min(allowed, plan.output_tokens_max)
    return prompt + allowed * turn.generation.n


def hold_ms(event: TurnAuthorized, settings: RateLimitSettings) -> int:
    """How long a reservation waits for its settlement: until the turn's deadline and a grace after it."""
    life_ms = max(0, event.turn.deadline_ms - event.turn.submitted_at_ms)
    return min(life_ms + settings.settle_grace_s * MS_PER_S, settings.reservation_s * MS_PER_S)


def check_size(tokens: int, plan: Plan) -> Refusal | None:
    """Refuse what no amount of waiting would let pass: without Retry-After, since none would help."""
    if tokens <= plan.turn_tokens_max:
        return None
    return _too_many(
        f"Request too large for the tokens of your plan: Limit {plan.turn_tokens_max}, Requested {tokens}. "
        "The messages or max_tokens must be reduced for the request to succeed."
    )


def decide(event: TurnAuthorized, tokens: int, grant: Grant) -> Emit:
    """The admitted turn with its reservation, or its refusal. Raises Malformed for a turn id without partition."""
    limits = rate_limits(grant.windows)
    if grant.refused_by is not None:
        return refuse(event.turn, RATE_LIMIT.name, over_limit(grant.refused_by, tokens, grant.retry_after_ms), limits)
    admitted = TurnAdmitted(
        turn=event.turn,
        account=event.account,
        pool=event.pool,
        served_model=event.served_model,
        fallbacks=event.fallbacks,
        message_seq=event.message_seq,
        input=event.input,
        limits=limits,
        reserved_tokens=tokens,
    )
    return pass_on(TURNS_ADMITTED, event.turn, admitted)


def over_limit(window: LimitWindow, tokens: int, retry_after_ms: int) -> Refusal:
    """429, in the words and codes of OpenAI where there are some: which quota had no room, and when it has."""
    wait_s = f"{math.ceil(retry_after_ms / 100) / 10:g}"
    if window.kind == "concurrent_turns":
        return _too_many(
            f"Too many turns at once: Limit {window.limit}, Running {window.used}. "
            "Wait for the end of one, or cancel it.",
            retry_after_ms,
            code=RUNNING_CODE,
        )
    requested = 1 if window.kind == "requests" else tokens
    figures = f"Limit {window.limit}, Used {window.used}, Requested {requested}. Please try again in {wait_s}s."
    if window.period == "day":
        return _too_many(
            f"You exceeded your current quota of {window.kind} per day: {figures}",
            retry_after_ms,
            code=DAY_CODE,
            kind=ErrorType.INSUFFICIENT_QUOTA,
        )
    return _too_many(f"Rate limit reached for {window.kind}: {figures}", retry_after_ms)


def used_by(event: UsageRecorded) -> tuple[Account, str, int]:
    """What ``Quota.settle`` wants to know: the account, the turn id and the tokens that were really used."""
    account = Account(tenant_id=event.tenant_id, user_id=event.user_id, key_id=event.key_id, plan=event.plan)
    return account, event.turn_id, event.usage.prompt_tokens + event.usage.completion_tokens


def settles_something(event: UsageRecorded, now_ms: int, settings: RateLimitSettings) -> bool:
    """Whether it is still worth waiting for the store of the quotas."""
    return now_ms - event.recorded_at_ms <= settings.settlement_seconds_max * MS_PER_S


def _too_many(
    message: str,
    retry_after_ms: int | None = None,
    *,
    code: str = RATE_LIMIT_CODE,
    kind: ErrorType = ErrorType.RATE_LIMIT,
) -> Refusal:
    return Refusal(
        status=429,
        error=ErrorBody(message=message, type=kind, code=code),
        retry_after_s=None if retry_after_ms is None else max(1, math.ceil(retry_after_ms / MS_PER_S)),
    )
