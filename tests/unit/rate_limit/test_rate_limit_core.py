import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.errors import ErrorType, Refusal
from schemas.events import FinishReason, RateLimits, TurnAdmitted, Usage, UsageRecorded
from schemas.ports import Grant
from schemas.tokens import Refused
from schemas.topics import TOKENS, TURNS_ADMITTED
from stream_processors.rate_limit.core import (
    PlanLimits,
    RateLimitSettings,
    check_size,
    decide,
    tokens_to_reserve,
    used_by,
)
from stream_processors.token_counts import estimate_tokens
from tests.support.turn_events import (
    ACCOUNT,
    LIMITS,
    NOW_MS,
    PARTITION,
    authorized,
    conversation_id,
    turn,
    turn_id,
    user,
)

PLAN = PlanLimits(
    requests_per_minute=60, tokens_per_minute=1_000, completion_tokens_default=100, completion_tokens_max=300
)
FULL = RateLimits(
    limit_requests=60,
    remaining_requests=0,
    reset_requests_ms=60_000,
    limit_tokens=1_000,
    remaining_tokens=150,
    reset_tokens_ms=51_000,
)


def refusal_of(grant: Grant, tokens: int = 400) -> Refused:
    event = decide(authorized(turn()), tokens, grant).event
    assert isinstance(event, Refused)
    return event


@pytest.mark.parametrize(("max_tokens", "completion"), [(None, 100), (50, 50), (10_000, 300)])
def test_a_reservation_is_the_prompts_estimate_and_the_completion_within_the_plan(
    max_tokens: int | None, completion: int
) -> None:
    event = authorized(turn(max_tokens=max_tokens), user("x" * 40), user("y" * 41))
    assert tokens_to_reserve(event, PLAN) == (10 + 4) + (11 + 4) + completion


@given(st.text())
def test_the_estimate_is_zero_only_for_nothing_and_at_most_a_token_per_byte(text: str) -> None:
    tokens = estimate_tokens(text)
    assert (tokens == 0) == (text == "")
    assert tokens <= len(text.encode())


@given(st.text(), st.text())
def test_longer_texts_are_not_estimated_shorter(text: str, more: str) -> None:
    assert estimate_tokens(text) <= estimate_tokens(text + more)


def test_what_fits_the_limit_exactly_is_not_too_large() -> None:
    assert check_size(1_000, PLAN) is None


def test_what_exceeds_the_whole_limit_is_refused_with_what_to_do() -> None:
    refusal = check_size(1_001, PLAN)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.error.code, refusal.retry_after_s) == (429, "rate_limit_exceeded", 60)
    assert "Limit 1000, Requested 1001" in refusal.error.message
    assert "must be reduced" in refusal.error.message


def test_the_tenants_limit_bounds_a_turn_too() -> None:
    assert check_size(600, PLAN.model_copy(update={"tenant_tokens_per_minute": 500})) is not None


def test_a_granted_turn_carries_its_limits_and_reservation() -> None:
    emit = decide(authorized(turn(), user("hi")), 400, Grant(LIMITS))
    assert (emit.topic, emit.key, emit.partition) == (TURNS_ADMITTED, conversation_id(1), None)
    assert isinstance(emit.event, TurnAdmitted)
    assert (emit.event.limits, emit.event.reserved_tokens, emit.event.message_seq) == (LIMITS, 400, 1_000)


def test_a_refusal_by_requests_speaks_openais_words() -> None:
    refused = refusal_of(Grant(FULL, "requests", 1_400))
    error = refused.refusal.error
    assert error.message == (
        "Rate limit reached for requests: Limit 60, Used 60, Requested 1. Please try again in 1.4s."
    )
    assert (refused.refusal.status, error.type, error.code) == (429, ErrorType.RATE_LIMIT, "rate_limit_exceeded")
    assert (refused.refusal.retry_after_s, refused.limits, refused.stage) == (2, FULL, "rate_limit")


def test_a_refusal_by_tokens_tells_the_tokens() -> None:
    message = refusal_of(Grant(FULL, "tokens", 15_000)).refusal.error.message
    assert message == "Rate limit reached for tokens: Limit 1000, Used 850, Requested 400. Please try again in 15s."


def test_retry_after_is_at_least_a_second() -> None:
    assert refusal_of(Grant(FULL, "requests", 1)).refusal.retry_after_s == 1


def test_a_refusal_goes_to_the_turns_partition() -> None:
    emit = decide(authorized(turn()), 1, Grant(FULL, "requests", 1))
    assert (emit.topic, emit.key, emit.partition) == (TOKENS, turn_id(1), PARTITION)


def test_usage_is_prompt_and_completion_of_the_account() -> None:
    event = UsageRecorded(
        turn_id=turn_id(1),
        conversation_id=conversation_id(1),
        tenant_id="acme",
        user_id="ann",
        key_id="k1",
        plan="pro",
        model="turnstream-fast",
        pool="fast",
        usage=Usage(prompt_tokens=30, completion_tokens=12, cached_tokens=20),
        finish_reason=FinishReason.STOP,
        attempt=1,
        duration_ms=5,
        submitted_at_ms=NOW_MS,
        recorded_at_ms=NOW_MS,
    )
    assert used_by(event) == (ACCOUNT, turn_id(1), 42)


def test_an_unlisted_plan_has_the_default_plans_limits() -> None:
    settings = RateLimitSettings()
    assert settings.limits_of("never heard of") == settings.plans[settings.default_plan]


def test_a_default_plan_without_limits_is_refused_at_start() -> None:
    with pytest.raises(ValidationError, match="default_plan"):
        RateLimitSettings(default_plan="nowhere")
