"""The sink's bounds: what is held, for how long, and what happens at the limit."""

from consumers.cassandra_sink.core import CassandraSinkSettings, PartitionTurns, Plan
from consumers.cassandra_sink.rows import Rank, message_rows
from consumers.cassandra_sink.turns import HeldTurn
from schemas.tokens import TokenEvent
from tests.support.answer_records import AnswerRecords, answer, cancelled, cleared, delta, fence, finished, turn_id_of

SETTINGS = CassandraSinkSettings(
    text_bytes_max=8, turn_held_seconds_max=60, uncleared_seconds_max=5, turns_held_max=3, turns_skipped_max=2
)


class Turns:
    """A partition's turns with their log."""

    def __init__(self, settings: CassandraSinkSettings = SETTINGS) -> None:
        self.log = AnswerRecords()
        self.turns = PartitionTurns(settings)

    def take(self, *events: TokenEvent, refreshed: bool = True) -> Plan:
        start = len(self.log.records)
        self.log.add(*events)
        plan = self.turns.plan(self.log.between(start, len(self.log.records)))
        self.turns.keep(plan, contexts_refreshed=refreshed)
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
    assert turns.safe() == len(turns.log.records)
    assert turns.wait(1).given_up == ()


def test_a_given_up_turn_that_ends_after_all_is_written_as_if_in_time() -> None:
    turns = Turns()
    turns.take(cleared(1), fence(1), delta(1, 0, "half"))
    (given_up,) = turns.wait(61).given_up
    plan = turns.take(delta(1, 1, "ful"), finished(1, 2))
    (ended,) = plan.ended
    assert ended.text == "halfful"
    late, final = (
        message_rows(turn, cleared(1), rank)[-1] for turn, rank in ((given_up, Rank.GIVEN_UP), (ended, Rank.ENDED))
    )
    assert late.written_us < final.written_us
    assert plan.drafts == ()


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
    together, apart = Turns(), Turns()
    assert together.take(cancelled(1), cleared(1)).ended == ()
    apart.take(cancelled(1))
    assert apart.take(cleared(1)).ended == ()
    assert together.safe() == apart.safe() == 0
    assert together.wait(6).given_up == apart.wait(6).given_up == ()


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


def test_beyond_the_bound_the_oldest_turn_is_written_as_incomplete_and_forgotten() -> None:
    turns = Turns()
    turns.take(*(event for number in range(3) for event in (cleared(number), fence(number), delta(number, 0, "x"))))
    plan = turns.take(cleared(3))
    assert plan.dropped == 1
    assert [turn.first_offset for turn in plan.given_up] == [0]
    assert turns.safe() == 3
    assert turns.take(finished(0, 1)).ended == ()


def test_beyond_the_bound_released_turns_go_first() -> None:
    turns = Turns()
    turns.take(cleared(0), fence(0), delta(0, 0, "x"))
    turns.wait(61)
    plan = turns.take(cleared(1), cleared(2), cleared(3))
    assert (plan.dropped, plan.given_up) == (1, ())
    assert len(plan.turns) == 3


def test_the_bound_on_all_text_drops_the_oldest() -> None:
    turns = Turns(SETTINGS.model_copy(update={"held_bytes_max": 10}))
    turns.take(cleared(1), fence(1), delta(1, 0, "12345"), cleared(2), fence(2), delta(2, 0, "12345"))
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
    assert turn_id_of(1) in first.skipped
