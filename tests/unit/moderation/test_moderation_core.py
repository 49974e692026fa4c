import pytest

from schemas.errors import Malformed
from schemas.events import Decision, FinishReason, InferenceRequested, ModerationDecided, UsageRecorded
from schemas.ports import Verdict
from schemas.stream_state import INITIAL, advance
from schemas.tokens import AttemptStarted, Cleared, Finished, Refused
from schemas.topics import INFERENCE_REQUESTS, MODERATION_DECISIONS, TOKENS, USAGE_EVENTS
from stream_processors.moderation.core import decide, own_messages, own_texts, trace_id
from tests.support.turn_events import (
    LIMITS,
    PARTITION,
    TRACE_ID,
    TRACEPARENT,
    assistant,
    conversation_id,
    prompted,
    turn,
    turn_id,
    user,
)

ALLOWED = Verdict(Decision.ALLOWED, ("pii/email",), ("pii/email",))
BLOCKED = Verdict(Decision.BLOCKED_INPUT, ("demo",), ("demo.phrase",))
OWN = (user("mine"), user("too"))


def emits(verdict: Verdict, *, stored: bool = False) -> list[tuple[object, str, int | None, object]]:
    event = prompted(turn(stored=stored), *OWN, history=(user("old"), assistant("older")))
    decided = decide(event, verdict, policy_version="v", decided_at_ms=9, received_at_ms=8, traceparent=TRACEPARENT)
    return [(emit.topic, emit.key, emit.partition, emit.event) for emit in decided]


def test_a_cleared_turn_is_cleared_before_it_is_requested() -> None:
    topics = [(topic, key, partition) for topic, key, partition, _ in emits(ALLOWED)]
    assert topics == [
        (TOKENS, turn_id(1), PARTITION),
        (INFERENCE_REQUESTS["fast"], conversation_id(1), None),
        (MODERATION_DECISIONS, turn_id(1), None),
    ]


def test_cleared_brings_the_own_messages_of_a_stored_turn() -> None:
    cleared = emits(ALLOWED, stored=True)[0][3]
    assert isinstance(cleared, Cleared)
    assert (cleared.input, cleared.limits, cleared.stored, cleared.message_seq) == (OWN, LIMITS, True, 1_000)


def test_cleared_brings_no_message_of_a_stateless_turn() -> None:
    cleared = emits(ALLOWED, stored=False)[0][3]
    assert isinstance(cleared, Cleared)
    assert cleared.input == ()


def test_the_request_has_the_whole_prompt() -> None:
    request = emits(ALLOWED)[1][3]
    assert isinstance(request, InferenceRequested)
    assert len(request.prompt.messages) == 4


def test_a_turn_that_wants_no_answer_ends_here_and_asks_no_model() -> None:
    event = prompted(turn(stored=True, wants_answer=False), *OWN)
    decided = decide(event, ALLOWED, policy_version="v", decided_at_ms=9, received_at_ms=8, traceparent=None)
    cleared, started, finished, verdict, usage = [emit.event for emit in decided]
    state = INITIAL
    for said in (cleared, started, finished):
        assert isinstance(said, Cleared | AttemptStarted | Finished)
        following = advance(state, said)
        assert following is not state
        state = following
    assert isinstance(state.terminal, Finished)
    assert state.cleared is not None
    assert (state.cleared.input, state.cleared.wants_answer) == (OWN, False)
    assert isinstance(verdict, ModerationDecided)
    assert isinstance(usage, UsageRecorded)
    assert (usage.usage.prompt_tokens, usage.usage.completion_tokens) == (0, 0)


def test_a_blocked_turn_is_refused_without_telling_the_rule() -> None:
    (refusal, decision, _) = emits(BLOCKED)
    assert (refusal[0], refusal[2], decision[0]) == (TOKENS, PARTITION, MODERATION_DECISIONS)
    refused = refusal[3]
    assert isinstance(refused, Refused)
    assert (refused.refusal.status, refused.refusal.error.code) == (400, "content_policy_violation")
    assert (refused.limits, refused.stage) == (LIMITS, "moderation")
    assert "demo" not in refused.refusal.model_dump_json()


@pytest.mark.parametrize("verdict", [ALLOWED, BLOCKED])
def test_every_verdict_is_recorded_with_its_reasons(verdict: Verdict) -> None:
    decided = [event for topic, _, _, event in emits(verdict) if topic is MODERATION_DECISIONS]
    assert decided == [
        ModerationDecided(
            turn_id=turn_id(1),
            conversation_id=conversation_id(1),
            tenant_id="acme",
            user_id="ann",
            decision=verdict.decision,
            categories=verdict.categories,
            rules=verdict.rules,
            policy_version="v",
            trace_id=TRACE_ID,
            decided_at_ms=9,
        )
    ]


def test_a_blocked_turn_is_billed_for_nothing_so_that_its_reservation_is_given_back() -> None:
    topic, key, _, bill = emits(BLOCKED)[-1]
    assert (topic, key) == (USAGE_EVENTS, "ann")
    assert isinstance(bill, UsageRecorded)
    assert (bill.usage.prompt_tokens, bill.usage.completion_tokens) == (0, 0)
    assert (bill.finish_reason, bill.recorded_at_ms, bill.attempt) == (FinishReason.CONTENT_FILTER, 8, 0)
    assert bill.decision is Decision.BLOCKED_INPUT


def test_a_pool_without_a_topic_is_malformed() -> None:
    with pytest.raises(Malformed, match="pool"):
        decide(
            prompted(turn(), pool="gone"),
            ALLOWED,
            policy_version="v",
            decided_at_ms=9,
            received_at_ms=8,
            traceparent=None,
        )


def test_only_the_own_input_is_judged_with_the_names_in_it() -> None:
    named = user("mine").model_copy(update={"name": "a name"})
    event = prompted(turn(), named, user("too"), history=(user("old"),))
    assert own_messages(event) == (named, user("too"))
    assert list(own_texts(event)) == ["mine", "a name", "too"]


@pytest.mark.parametrize("header", [None, "", "nonsense", "00-abc"])
def test_without_a_traceparent_there_is_no_trace(header: str | None) -> None:
    assert trace_id(header) is None
