"""What the log says of turns, without their words."""

from collections.abc import Sequence

from schemas import serde
from schemas.event import Event
from schemas.events import Decision, FinishReason, ModerationDecided, Prompt, Usage, UsageRecorded
from schemas.headers import TURN
from schemas.ports import Record
from schemas.topics import MODERATION_DECISIONS, TOKENS, USAGE_EVENTS, Topic
from tests.support.answer_records import (
    START_MS,
    answer,
    cancelled,
    cleared,
    delta,
    failed,
    fence,
    finished,
    refused,
    turn_id_of,
)
from tests.support.turn_events import assistant, user
from turnstream.shadow.differences import compare, summarise
from turnstream.shadow.facts import FactsOf, TurnFacts, prompt_facts

PRIVATE = "what the user wrote"


def record(topic: Topic, event: Event, at_ms: int = START_MS, number: int = 1) -> Record:
    headers = ((TURN, turn_id_of(number).encode()),)
    return Record(topic.name, 0, 0, b"k", serde.encode(event), headers, at_ms)


def facts_of(events: Sequence[Event], *others: Record) -> TurnFacts:
    facts = FactsOf()
    for number, event in enumerate(events):
        facts.take(record(TOKENS, event, START_MS + 10 * number))
    for other in others:
        facts.take(other)
    return facts.facts()[turn_id_of(1)]


def decided(decision: Decision, *rules: str) -> Record:
    event = ModerationDecided(
        turn_id=turn_id_of(1),
        conversation_id="c",
        tenant_id="t",
        user_id="u",
        decision=decision,
        rules=rules,
        policy_version="p",
        decided_at_ms=START_MS,
    )
    return record(MODERATION_DECISIONS, event)


def billed(completion_tokens: int, attempt: int = 1) -> Record:
    event = UsageRecorded(
        turn_id=turn_id_of(1),
        conversation_id="c",
        tenant_id="t",
        user_id="u",
        key_id="k",
        plan="pro",
        model="m",
        pool="fast",
        usage=Usage(prompt_tokens=7 if attempt else 0, completion_tokens=completion_tokens),
        finish_reason=FinishReason.STOP,
        attempt=attempt,
        duration_ms=1,
        submitted_at_ms=START_MS,
        recorded_at_ms=START_MS,
        cost_nano_usd=5,
    )
    return record(USAGE_EVENTS, event)


def test_the_same_words_in_other_pieces_are_the_same_answer() -> None:
    whole, pieces = facts_of(answer(1, "one two")), facts_of(answer(1, "one", " ", "two"))
    assert whole.answer is not None
    assert pieces.answer is not None
    assert whole.answer.hash == pieces.answer.hash
    assert whole.answer.hash != getattr(facts_of(answer(1, "one three")).answer, "hash", None)
    assert (whole.outcome, whole.finish_reason, whole.answer.chars) == ("finished", "stop", 7)


def test_times_count_from_the_first_fence_and_zombies_do_not_count() -> None:
    events = [cleared(1), fence(1), delta(1, 0, "a"), fence(1, 2, "b"), delta(1, 1, "x"), delta(1, 1, "b", 2, "b")]
    found = facts_of([*events, finished(1, 2, 2, "b"), delta(1, 2, "late", 2, "b")]).answer
    assert found is not None
    assert (found.chars, found.ttft_ms, found.duration_ms) == (2, 10, 50)


def test_every_end_has_its_outcome() -> None:
    assert facts_of([refused(1)]).outcome == "refused"
    assert facts_of([cleared(1), failed(1)]).outcome == "failed"
    assert facts_of([cleared(1), cancelled(1)]).outcome == "cancelled"
    assert facts_of([cleared(1)]).outcome == "cleared"
    assert facts_of([], decided(Decision.ALLOWED)).outcome is None


def test_a_verdict_on_the_answer_stands_whatever_comes_after_it() -> None:
    facts = facts_of([cleared(1)], decided(Decision.BLOCKED_OUTPUT, "r"), decided(Decision.ALLOWED))
    assert (facts.decision, facts.rules, facts.stopped) == ("blocked_output", ("r",), True)


def test_a_bill_of_nothing_does_not_replace_one_of_something() -> None:
    facts = facts_of([], billed(9), billed(0, attempt=0))
    assert (facts.completion_tokens, facts.cost_nano_usd) == (9, 5)
    assert facts_of([], billed(0, attempt=0)).completion_tokens == 0


def test_only_wanted_turns_are_looked_at_and_unreadable_records_are_counted() -> None:
    facts = FactsOf(frozenset((turn_id_of(2),)))
    facts.take(record(TOKENS, cleared(1)))
    facts.take(record(TOKENS, cleared(2), number=2))
    facts.take(record(TOKENS, cleared(2), number=2)._replace(value=b"{"))
    assert (set(facts.facts()), facts.unreadable) == ({turn_id_of(2)}, 1)


def test_a_prompt_is_its_messages_and_no_words_are_kept() -> None:
    one = Prompt(messages=(user(PRIVATE),), input_count=1, prompt_tokens=9, max_tokens=5, dropped_messages=2)
    two = one.model_copy(update={"messages": (assistant(PRIVATE),)})
    assert prompt_facts(one).hash != prompt_facts(two).hash
    assert (prompt_facts(one).tokens, prompt_facts(one).messages, prompt_facts(one).dropped) == (9, 1, 2)
    assert PRIVATE not in repr(prompt_facts(one))
    assert PRIVATE not in repr(facts_of(answer(1, PRIVATE)))


def test_an_answer_that_the_policy_cuts_off_now_is_a_flip() -> None:
    turn = turn_id_of(1)
    before = facts_of(answer(1, "a", "b"), decided(Decision.ALLOWED))
    ends = [cleared(1), fence(1), delta(1, 0, "a"), finished(1, 1, reason=FinishReason.CONTENT_FILTER)]
    after = facts_of(ends, decided(Decision.BLOCKED_OUTPUT, "r"))
    (row,) = compare("run", {turn: before}, {turn: after}, answered=True)
    assert row.changes == ("decision", "answer", "finish_reason")
    assert row.flip == "allowed -> blocked_output"
    (unasked,) = compare("run", {turn: after}, {turn: facts_of([cleared(1)])}, answered=False)
    assert unasked.changes == ()


def test_a_refusal_with_another_code_and_an_original_that_is_gone() -> None:
    turn = turn_id_of(1)
    here = facts_of([refused(1)])
    there = facts_of([refused(1).model_copy(update={"stage": "prompt"})])
    (row,) = compare("run", {turn: here}, {turn: there}, answered=True)
    assert row.changes == ("refusal",)
    (gone,) = compare("run", {}, {turn: there}, answered=True)
    assert (gone.original, gone.changes) == (None, ())
    summary = summarise("run", [row, gone])
    assert (summary.turns, summary.compared, summary.original_unknown, summary.flips) == (2, 1, 1, {})
