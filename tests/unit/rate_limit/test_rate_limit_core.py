import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import ErrorType, Refusal
from schemas.events import FinishReason, RateLimits, TurnAdmitted, Usage, UsageRecorded
from schemas.limits import LimitLedgered, LimitWindow
from schemas.plans import Plan
from schemas.ports import Grant, Lost
from schemas.tokens import Refused
from schemas.topics import LIMITS_LEDGER, TOKENS, TURNS_ADMITTED
from stream_processors.rate_limit.core import (
    RateLimitSettings,
    check_size,
    decide,
    hold_ms,
    tokens_to_reserve,
    used_by,
)
from stream_processors.rate_limit.ledger import reservation
from stream_processors.rate_limit.quotas import rate_limits
from stream_processors.token_counts import estimate_tokens
from tests.support.turn_events import (
    ACCOUNT,
    NOW_MS,
    PARTITION,
    authorized,
    conversation_id,
    turn,
    turn_id,
    user,
)

PLAN = Plan(requests_per_minute=60, tokens_per_minute=1_000, completion_tokens_default=100, completion_tokens_max=300)
REQUESTS = LimitWindow(scope="user", kind="requests", period="minute", limit=60, used=60, reset_ms=60_000)
TOKENS_LEFT = LimitWindow(scope="user", kind="tokens", period="minute", limit=1_000, used=850, reset_ms=51_000)
FULL = (REQUESTS, TOKENS_LEFT)
TOLD = RateLimits(
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
    assert (refusal.status, refusal.error.code, refusal.retry_after_s) == (429, "rate_limit_exceeded", None)
    assert "Limit 1000, Requested 1001" in refusal.error.message
    assert "must be reduced" in refusal.error.message


def test_the_tenants_limit_bounds_a_turn_too() -> None:
    assert check_size(600, PLAN.model_copy(update={"tenant_tokens_per_minute": 500})) is not None


def test_a_granted_turn_carries_its_limits_and_reservation() -> None:
    emit = decide(authorized(turn(), user("hi")), 400, Grant(FULL))
    assert (emit.topic, emit.key, emit.partition) == (TURNS_ADMITTED, conversation_id(1), None)
    assert isinstance(emit.event, TurnAdmitted)
    assert (emit.event.limits, emit.event.reserved_tokens, emit.event.message_seq) == (TOLD, 400, 1_000)


def test_a_refusal_by_requests_speaks_openais_words() -> None:
    refused = refusal_of(Grant(FULL, REQUESTS, 1_400))
    error = refused.refusal.error
    assert error.message == (
        "Rate limit reached for requests: Limit 60, Used 60, Requested 1. Please try again in 1.4s."
    )
    assert (refused.refusal.status, error.type, error.code) == (429, ErrorType.RATE_LIMIT, "rate_limit_exceeded")
    assert (refused.refusal.retry_after_s, refused.limits, refused.stage) == (2, TOLD, "rate_limit")


def test_a_refusal_by_tokens_tells_the_tokens() -> None:
    message = refusal_of(Grant(FULL, TOKENS_LEFT, 15_000)).refusal.error.message
    assert message == "Rate limit reached for tokens: Limit 1000, Used 850, Requested 400. Please try again in 15s."


def test_retry_after_is_at_least_a_second() -> None:
    assert refusal_of(Grant(FULL, REQUESTS, 1)).refusal.retry_after_s == 1


def test_a_refusal_goes_to_the_turns_partition() -> None:
    emit = decide(authorized(turn()), 1, Grant(FULL, REQUESTS, 1))
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


def test_the_tightest_of_minute_and_day_is_told_with_its_own_limit() -> None:
    day = LimitWindow(scope="user", kind="requests", period="day", limit=100, used=99, reset_ms=85_000_000)
    free = LimitWindow(scope="user", kind="requests", period="minute", limit=60, used=3, reset_ms=3_000)
    told = rate_limits((free, day, TOKENS_LEFT))
    assert (told.limit_requests, told.remaining_requests, told.reset_requests_ms) == (100, 1, 85_000_000)


def test_a_used_up_day_is_insufficient_quota_and_says_when_it_heals() -> None:
    day = LimitWindow(scope="user", kind="tokens", period="day", limit=1_000, used=900, reset_ms=77_760_000)
    refusal = refusal_of(Grant((REQUESTS, day), day, 25_920_000)).refusal
    assert (refusal.status, refusal.error.type, refusal.error.code) == (
        429,
        ErrorType.INSUFFICIENT_QUOTA,
        "insufficient_quota",
    )
    assert refusal.retry_after_s == 25_920


def test_too_many_turns_at_once_have_a_code_of_their_own() -> None:
    running = LimitWindow(scope="user", kind="concurrent_turns", limit=2, used=2)
    refusal = refusal_of(Grant((*FULL, running), running, 1_000)).refusal
    assert (refusal.error.code, refusal.retry_after_s) == ("concurrent_turns_exceeded", 1)


def test_every_choice_is_reserved_for() -> None:
    event = authorized(turn(max_tokens=50, generation={"n": 3}), user("x" * 40))
    assert tokens_to_reserve(event, PLAN) == (10 + 4) + 3 * 50


@pytest.mark.parametrize(("life_ms", "held_ms"), [(60_000, 90_000), (10_000_000, 900_000), (-5, 30_000)])
def test_a_reservation_is_held_until_a_grace_after_the_deadline(life_ms: int, held_ms: int) -> None:
    event = authorized(turn(deadline_ms=NOW_MS + life_ms))
    assert hold_ms(event, RateLimitSettings()) == held_ms


def test_a_reservation_and_a_refusal_are_entries_of_the_ledger_with_their_figures() -> None:
    event = authorized(turn())
    (reserved,) = reservation(event, 400, Grant(FULL), NOW_MS)
    refused, lost = reservation(event, 400, Grant(FULL, REQUESTS, 5, (Lost(turn_id(9), "k9", 70),)), NOW_MS)
    assert (reserved.topic, reserved.key, reserved.turn_id) == (LIMITS_LEDGER, "ann", turn_id(1))
    entries = [emit.event for emit in (reserved, refused, lost)]
    assert all(isinstance(entry, LimitLedgered) for entry in entries)
    assert [(each.entry, each.turn_id, each.tokens) for each in entries if isinstance(each, LimitLedgered)] == [
        ("reserved", turn_id(1), 400),
        ("refused", turn_id(1), 400),
        ("released", turn_id(9), 70),
    ]
