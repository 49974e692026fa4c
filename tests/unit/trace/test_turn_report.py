"""Records -> report, told with the golden examples of one turn."""

import json
from io import StringIO

import pytest
from rich.console import Console

from schemas import headers
from schemas.operations import OperatorActed
from schemas.topics import BY_NAME
from tests.support.told_turn import FOLDER, PRIVATE, TURN, Log, example, fence, taken_over_turn
from turnstream.contract_docs.example_files import topic_examples
from turnstream.trace.event_words import event_words
from turnstream.trace.rendering import render
from turnstream.trace.report import TurnReport, build_report


@pytest.fixture
def taken_over() -> Log:
    return taken_over_turn()


def test_it_says_whose_turn_it_was_and_how_it_ended(taken_over: Log) -> None:
    report = taken_over.report()
    assert (report.tenant_id, report.user_id, report.model, report.pool) == (
        "acme",
        "u-ada",
        "turnstream-fast",
        "fast",
    )
    assert report.outcome == "finished: stop, 38 + 14 tokens"
    assert report.decision == "allowed"
    assert report.persisted
    assert report.usage is not None
    assert report.usage.completion_tokens == 14


def test_each_stage_has_its_time(taken_over: Log) -> None:
    times = {stage.stage: stage.duration_ms for stage in taken_over.report().stages}
    assert times == {
        "auth": 3,
        "rate_limit": 4,
        "prompt": 5,
        "moderation": 6,
        "inference: take up": 7,
        "inference: first token": 20,
        "inference: answer": 20 + 10 + 20 + 60 + 10,
        "cassandra_sink": 9,
    }


def test_attempts_count_only_what_the_fence_let_through(taken_over: Log) -> None:
    attempts = [(each.attempt, each.deltas, each.tokens) for each in taken_over.report().attempts]
    assert attempts == [(1, 2, 4), (2, 3, 6)]
    hidden = [step for step in taken_over.report().steps if not step.counted]
    assert [step.what for step in hidden] == [f"delta 2: 2 tokens, {len(PRIVATE)} chars"]


def test_steps_are_in_the_order_of_time_from_submission(taken_over: Log) -> None:
    taken_over.records.reverse()
    steps = taken_over.report().steps
    assert len(steps) == len(taken_over.records)
    assert steps[0].stage == "edge"
    assert steps[0].since_submitted_ms == 1
    assert [step.at_ms for step in steps] == sorted(step.at_ms for step in steps)


def test_no_content_gets_into_the_report(taken_over: Log) -> None:
    text = taken_over.report().model_dump_json()
    for content in (PRIVATE, "And who reads it?", "helpful assistant"):
        assert content not in text


def test_a_running_turn_is_running() -> None:
    log = Log()
    log.way_to_the_gpu()
    log.add("chat.tokens.v1", fence(1, "a"))
    assert log.report().outcome == "running"
    assert not log.report().persisted
    assert log.report().usage is None


def test_a_refused_turn_names_the_stage_and_the_code() -> None:
    log = Log()
    log.add("chat.turns.submitted.v1", example("chat.turns.submitted.v1", "continues_conversation"), after_ms=1)
    log.add("chat.turns.authorized.v1", example("chat.turns.authorized.v1", "stored"), after_ms=2)
    log.add("chat.tokens.v1", example("chat.tokens.v1", "refused_over_quota"), after_ms=3)
    report = log.report()
    assert report.outcome == "refused by rate_limit: 429 rate_limit_exceeded"
    assert [(stage.stage, stage.duration_ms) for stage in report.stages] == [("auth", 2), ("rate_limit", 3)]


@pytest.mark.parametrize(
    ("case", "outcome", "stage"),
    [
        ("cancelled_by_client", "cancelled: client", "edge"),
        ("failed_unconditionally", "failed: 500 internal_error", "dead letter"),
    ],
)
def test_other_endings(case: str, outcome: str, stage: str) -> None:
    log = Log()
    log.add("chat.tokens.v1", example("chat.tokens.v1", case))
    assert log.report().outcome == outcome
    assert log.report().steps[-1].stage == stage


def test_a_dead_letter_says_who_gave_up_and_why() -> None:
    log = Log()
    origin = headers.make_headers(((headers.DLQ_STAGE, "prompt"), (headers.DLQ_ERROR, "input: too short")))
    log.add("chat.turns.admitted.v1.dlq", b"\x00", extra=origin)
    (step,) = log.report().steps
    assert (step.stage, step.what, step.counted) == ("prompt", "dead letter: input: too short", True)


def test_an_unreadable_record_is_shown_without_its_value() -> None:
    log = Log()
    log.add("chat.tokens.v1", json.dumps({"type": "delta", "content": PRIVATE}).encode())
    (step,) = log.report().steps
    assert step.what.startswith("unreadable: chat.tokens.v1: ")
    assert not step.counted
    assert PRIVATE not in step.what


def test_no_records_make_no_report() -> None:
    assert build_report(TURN, []) is None


def test_a_malformed_id_is_refused() -> None:
    with pytest.raises(ValueError, match="an id"):
        build_report("nope", [])


@pytest.mark.parametrize("topic", list(BY_NAME))
def test_every_event_has_words_of_its_own(topic: str) -> None:
    for each in topic_examples(FOLDER, BY_NAME[topic]):
        log = Log()
        log.add(topic, each.value)
        (step,) = log.report().steps
        assert step.what
        assert "\n" not in step.what


def rendered(report: TurnReport, *, every_delta: bool = False) -> str:
    shown = StringIO()
    render(report, Console(width=200, file=shown), every_delta=every_delta)
    return shown.getvalue()


def test_the_table_folds_runs_of_deltas(taken_over: Log) -> None:
    text = rendered(taken_over.report())
    assert "3 deltas until" in text
    assert "delta 3" not in text
    assert "(does not count)" in text
    assert "finished: stop" in text
    assert PRIVATE not in text


def test_the_table_can_show_every_delta(taken_over: Log) -> None:
    text = rendered(taken_over.report(), every_delta=True)
    assert "deltas until" not in text
    assert all(f"delta {seq}:" in text for seq in range(5))


def test_a_redrive_links_the_turn_with_the_one_as_which_it_is_asked_again() -> None:
    details = {"turn": "old", "new_turn": "new"}
    acted = OperatorActed(
        action_id="a", actor="os:ann", action="dlq.redrive", subject="s", outcome="done", details=details, acted_at_ms=1
    )
    assert event_words(acted) == "dlq.redrive done by os:ann: turn old is asked again as new"
    assert event_words(acted.model_copy(update={"details": {}})) == "dlq.redrive done by os:ann"
