"""The sink's bounds: what is held, for how long, and what happens at the limit."""

import pytest

from consumers.cassandra_sink.core import CassandraSinkSettings, PartitionTurns, Plan
from consumers.cassandra_sink.rows import Rank, message_rows, turn_row
from consumers.cassandra_sink.turns import HeldTurn, TextBounds, fold, opened_by
from schemas.tokens import TokenEvent
from tests.support.answer_records import (
    AnswerRecords,
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

SETTINGS = CassandraSinkSettings(
    text_bytes_max=8, turn_held_seconds_max=60, uncleared_seconds_max=5, turns_held_max=3, turns_passed_max=2
)


class Turns:
    """A partition's turns with their log."""

    def __init__(self, settings: CassandraSinkSettings = SETTINGS) -> None:
        self.log = AnswerRecords()
        self.turns = PartitionTurns(settings)
        self.planned = 0

    def take(self, *events: TokenEvent, refreshed: bool = True) -> Plan:
        start = len(self.log.records)
        self.log.add(*events)
        plan = self.turns.plan(self.log.between(start, len(self.log.records)))
        assert plan.unexplained == ()
        self.turns.keep(plan, contexts_refreshed=refreshed)
        return plan

    def plan_next(self, *events: TokenEvent) -> Plan:
        """Append and plan, but keep it only when it explains everything."""
        self.planned = len(self.log.records)
        self.log.add(*events)
        plan = self.turns.plan(self.log.between(self.planned, len(self.log.records)))
        if not plan.unexplained:
            self.turns.keep(plan, contexts_refreshed=True)
        return plan

    def explain(self, turn_id: str) -> Plan:
        """Plan the last batch again with what the log has of one turn, and keep it."""
        own = [one for one in self.log.records if getattr(one.event, "turn_id", None) == turn_id]
        bounds = TextBounds(SETTINGS.text_bytes_max, SETTINGS.pieces_max)
        found = {turn_id: fold(opened_by(own[0]), own, bounds)}
        plan = self.turns.plan(self.log.between(self.planned, len(self.log.records)), found)
        assert plan.unexplained == ()
        self.turns.keep(plan, contexts_refreshed=True)
        return plan

    def wait(self, seconds: int) -> Plan:
        """Let log time pass: a record of a turn that is nobody's."""
        self.log.now_ms += seconds * 1000
        return self.take(cleared(999, stored=False))

    def safe(self) -> int:
        return self.turns.safe_position(len(self.log.records))


def statuses(turns: tuple[HeldTurn, ...], rank: Rank) -> list[str]:
    return [
        row.status
        for turn in turns
        if turn.state.cleared is not None
        for row in message_rows(turn, turn.state.cleared, rank)
    ]


def test_a_turn_without_a_terminal_is_given_up_and_no_longer_holds_the_position() -> None:
    turns = Turns()
    turns.take(cleared(1), fence(1), delta(1, 0, "half"))
    assert turns.wait(59).given_up == ()
    assert turns.safe() == 0
    plan = turns.wait(2)
    assert statuses(plan.given_up, Rank.GIVEN_UP) == ["complete", "incomplete"]
    assert (plan.overdue, plan.dropped) == (1, 0)
    assert turns.safe() == len(turns.log.records)
    assert turns.wait(1).given_up == ()


def test_a_given_up_turn_that_ends_after_all_is_unexplained_and_then_written_as_if_in_time() -> None:
    turns = Turns()
    turns.take(cleared(1), fence(1), delta(1, 0, "half"))
    (given_up,) = turns.wait(61).given_up
    assert turns.take(delta(1, 1, "ful")).drafts == ()
    plan = turns.plan_next(finished(1, 2))
    assert (plan.unexplained, plan.ended) == ((turn_id_of(1),), ())
    (ended,) = turns.explain(turn_id_of(1)).ended
    assert ended.text == "halfful"
    late, final = (
        message_rows(turn, cleared(1), rank)[-1] for turn, rank in ((given_up, Rank.GIVEN_UP), (ended, Rank.ENDED))
    )
    assert late.written_us < final.written_us


def test_a_turn_whose_clearance_never_comes_is_forgotten() -> None:
    turns = Turns()
    turns.take(fence(1), delta(1, 0, "x"))
    assert turns.safe() == 0
    plan = turns.wait(6)
    assert (plan.given_up, turns.safe()) == ((), len(turns.log.records))


def test_a_fence_that_overtakes_its_clearance_loses_nothing() -> None:
    turns = Turns()
    turns.take(fence(1), delta(1, 0, "x"))
    turns.take(cleared(1))
    assert [turn.text for turn in turns.take(finished(1, 1)).ended] == ["x"]


def test_a_cancellation_before_the_clearance_wins_in_one_batch_or_two() -> None:
    for batches in ([(cancelled(1), cleared(1))], [(cancelled(1),), (cleared(1),)]):
        turns = Turns()
        for batch in batches:
            if turns.plan_next(*batch).unexplained:
                assert turns.explain(turn_id_of(1)).ended == ()
        assert turns.safe() == len(turns.log.records)
        assert turns.wait(61).given_up == ()


def test_a_refusal_of_a_repetition_does_not_hide_the_end_of_a_turn_that_was_given_up() -> None:
    turns = Turns()
    turns.take(cleared(1), fence(1), delta(1, 0, "x"))
    turns.wait(61)
    assert turns.take(refused(1), cleared(1)).drafts == ()
    assert turns.plan_next(finished(1, 1)).unexplained == (turn_id_of(1),)
    assert [turn.text for turn in turns.explain(turn_id_of(1)).ended] == ["x"]


@pytest.mark.parametrize(
    "later",
    [
        (cleared(1), delta(1, 1, "b"), finished(1, 2)),
        (cleared(1), fence(1, 2, "b"), delta(1, 1, "b", 2, "b"), finished(1, 2, 2, "b")),
        (fence(1, 2, "b"), delta(1, 1, "b", 2, "b"), finished(1, 2, 2, "b")),
        (fence(1, 2, "b"), delta(1, 1, "b", 2, "b"), cancelled(1)),
        (cleared(1), delta(1, 1, "b"), failed(1)),
        (finished(1, 1),),
    ],
)
def test_a_restart_in_the_middle_of_a_turn_that_was_given_up_shows_by_what_is_missing(
    later: tuple[TokenEvent, ...],
) -> None:
    turns = Turns()
    turns.take(cleared(1), fence(1), delta(1, 0, "a"))
    turns.turns = PartitionTurns(SETTINGS)
    *before, last = later
    for event in before:
        turns.take(event)
    assert turns.plan_next(last).unexplained == (turn_id_of(1),)
    (ended,) = turns.explain(turn_id_of(1)).ended
    assert ended.text in {"a", "ab"}


def test_a_zombie_of_a_turn_that_is_held_whole_asks_nothing_of_the_log() -> None:
    turns = Turns()
    turns.take(cleared(1), fence(1), delta(1, 0, "a"), fence(1, 2, "b"))
    assert turns.take(delta(1, 1, "z"), finished(1, 2)).unexplained == ()
    assert [turn.text for turn in turns.take(finished(1, 1, 2, "b")).ended] == ["a"]


def test_too_much_text_is_cut_for_good_wherever_batches_end() -> None:
    events = (cleared(1), fence(1), delta(1, 0, "12345"), delta(1, 1, "6789"), delta(1, 2, "x"), finished(1, 3))
    (at_once,) = Turns().take(*events).ended
    one_by_one = Turns()
    (last,) = [turn for event in events for turn in one_by_one.take(event).ended]
    assert at_once.text == last.text == "12345"
    assert statuses((last,), Rank.ENDED) == ["complete", "incomplete"]


def test_the_bound_on_text_counts_bytes() -> None:
    turns = Turns()
    (turn,) = turns.take(cleared(1), fence(1), delta(1, 0, "ää"), delta(1, 1, "ääü"), finished(1, 2)).ended
    assert (turn.text, turn.text_bytes) == ("ää", 4)


def test_pieces_are_bounded_and_cut_with_the_text() -> None:
    turns = Turns(SETTINGS.model_copy(update={"pieces_max": 2}))
    turns.take(cleared(1), fence(1), delta(1, 0, "ä"))
    (turn,) = turns.take(delta(1, 1, ""), delta(1, 2, "c"), finished(1, 3)).ended
    row = turn_row(turn, cleared(1))
    assert (row.piece_chars, turn.text, turn.text_cut) == ((1, 0), "ä", True)


def test_beyond_the_bound_the_oldest_turn_is_given_up_and_found_again_at_its_end() -> None:
    turns = Turns()
    turns.take(*(event for number in range(3) for event in (cleared(number), fence(number), delta(number, 0, "x"))))
    plan = turns.take(cleared(3))
    assert plan.dropped == 1
    assert [turn.first_offset for turn in plan.given_up] == [0]
    assert turns.safe() == 3
    assert turns.plan_next(finished(0, 1)).unexplained == (turn_id_of(0),)
    assert [turn.text for turn in turns.explain(turn_id_of(0)).ended] == ["x"]


def test_the_bound_on_bytes_counts_questions_and_answers_and_drops_the_oldest() -> None:
    question = len("question 1.0")
    turns = Turns(SETTINGS.model_copy(update={"held_bytes_max": 2 * (question + 8 + 5)}))
    assert turns.take(cleared(1), fence(1), delta(1, 0, "12345")).dropped == 0
    assert turns.take(cleared(2), fence(2), delta(2, 0, "12345")).dropped == 0
    plan = turns.take(delta(2, 1, "6"))
    assert [turn.first_offset for turn in plan.given_up] == [0]


def test_what_comes_after_the_end_is_ignored_as_long_as_the_end_is_remembered() -> None:
    turns = Turns()
    turns.take(*answer(1, "x"))
    assert turns.take(cleared(1), fence(1, 2, "zombie")).drafts == ()
    assert turns.safe() == len(turns.log.records)
    turns.take(*answer(2, "x"), *answer(3, "x"))
    plan = turns.take(cleared(1))
    (again,) = plan.drafts
    (ended,) = Turns().take(*answer(1, "x")).ended
    written = [
        message_rows(t, cleared(1), rank)[0].written_us for t, rank in ((again, Rank.GIVEN_UP), (ended, Rank.ENDED))
    ]
    assert written[0] < written[1]


def test_debts_are_bounded_and_the_oldest_is_forgotten() -> None:
    turns = Turns(SETTINGS.model_copy(update={"contexts_owed_max": 1}))
    turns.take(*answer(1, "x", conversation="c1"), refreshed=False)
    assert turns.turns.owed() == ("c1",)
    plan = turns.turns.plan([])
    assert turns.turns.keep(plan, contexts_refreshed=False) == 0
    turns.log.add(*answer(2, "x", conversation="c2"))
    plan = turns.turns.plan(turns.log.between(4, 8))
    assert turns.turns.keep(plan, contexts_refreshed=False) == 1
    assert turns.turns.owed() == ("c2",)
    assert turns.safe() == 4


def test_planning_changes_nothing() -> None:
    turns = Turns()
    turns.log.add(*answer(1, "x"))
    batch = turns.log.between(0, 4)
    first, second = turns.turns.plan(batch), turns.turns.plan(batch)
    assert first == second
    assert [turn.state.cleared for turn in first.ended] == [cleared(1)]
    assert first.passed == {turn_id_of(1): True}
