"""Turns that the sink does not hold, at their end: read again from the log, within bounds."""

import pytest

from consumers.cassandra_sink.core import CassandraSinkSettings
from consumers.cassandra_sink.recovery import TurnRecovery
from schemas.errors import Retryable
from schemas.events import FinishReason
from schemas.headers import REPLAY
from schemas.tokens import Persisted, TokenEvent
from tests.support.answer_records import (
    PARTITION,
    AnswerRecords,
    answer,
    cancelled,
    cleared,
    delta,
    failed,
    fence,
    finished,
    turn_id_of,
)
from tests.unit.sink.sink_world import RecordsReader, Sink

ONE_HELD = CassandraSinkSettings(turns_held_max=1, recovery_batch_records_max=2)


async def test_a_turn_dropped_at_the_bound_is_stored_whole_and_persisted_when_it_ends() -> None:
    sink = Sink(ONE_HELD)
    await sink.take(cleared(1), fence(1), delta(1, 0, "Hel"), cleared(2), delta(1, 1, "lo"))
    assert sink.statuses()[1][2] == "incomplete"
    await sink.take(finished(1, 2))
    assert sink.statuses()[1][1:] == ("Hello", "complete")
    assert [event.turn_id for event in sink.log.appended if isinstance(event, Persisted)] == [turn_id_of(1)]
    assert sink.active.ended == {turn_id_of(1): "c1"}


async def test_an_overdue_turn_is_stored_when_it_ends_after_a_restart() -> None:
    sink = Sink(CassandraSinkSettings(turn_held_seconds_max=1))
    await sink.take(cleared(1), fence(1), delta(1, 0, "x"))
    sink.log.now_ms += 2_000
    await sink.take(cleared(2, stored=False))
    assert sink.safe() == sink.read
    sink.restart()
    await sink.take(finished(1, 1))
    assert sink.statuses()[1][1:] == ("x", "complete")
    assert len(sink.log.appended) == 1


async def test_what_is_held_whole_is_never_read_again() -> None:
    sink = Sink()
    await sink.take(*answer(1, "x"), cleared(2), fence(2), delta(2, 0, "y"), delta(2, 1, "late", 1, "z"))
    await sink.take(finished(2, 1), finished(2, 1), cancelled(1), failed(1))
    assert sink.reader.read == 0


async def test_a_log_that_cannot_be_read_gives_the_batch_again() -> None:
    sink = Sink(ONE_HELD)
    await sink.take(cleared(1), fence(1), cleared(2))
    sink.reader.down = True
    with pytest.raises(Retryable):
        await sink.take(finished(1, 0))
    assert sink.log.appended == []
    sink.reader.down = False
    await sink.read_on(1)
    assert len(sink.log.appended) == 1


async def test_a_stateless_turn_begun_before_a_restart_is_looked_at_once_and_leaves_nothing() -> None:
    sink = Sink()
    await sink.take(cleared(1, stored=False), fence(1))
    sink.restart()
    await sink.take(delta(1, 0, "x"), finished(1, 1))
    read = sink.reader.read
    assert read > 0
    await sink.take(finished(1, 1))
    assert (sink.reader.read, sink.rows.messages(), sink.log.appended) == (read, [], [])


async def test_a_marked_replay_is_not_stored_by_the_back_door() -> None:
    sink = Sink()
    sink.log.add(cleared(1), fence(1), headers=((REPLAY, b"1"),))
    sink.read = 2
    await sink.take(finished(1, 0))
    # The double of the reader keeps the headers.
    assert (sink.rows.messages(), sink.log.appended) == ([], [])


async def test_a_turn_that_was_persisted_before_is_not_persisted_again() -> None:
    sink = Sink()
    await sink.take(*answer(1, "x"))
    await sink.take()
    sink.restart()
    await sink.take(finished(1, 1), cancelled(1))
    assert len(sink.log.appended) == 1


async def test_the_search_is_bounded_and_reads_each_record_once() -> None:
    log = AnswerRecords()
    for number in range(10):
        log.add(*answer(number, "x"))
    reader = RecordsReader(log)
    settings = CassandraSinkSettings(recovery_records_max=12, recovery_batch_records_max=5)
    found = await TurnRecovery(reader, settings).find(PARTITION, [turn_id_of(n) for n in range(10)], 40)
    assert [turn.text for turn in found.values() if turn is not None] == ["x"] * 3
    assert reader.read == 12


async def test_an_id_that_is_none_and_a_turn_that_the_log_does_not_have_are_not_found() -> None:
    log = AnswerRecords()
    log.add(*answer(1, "x"))
    recovery = TurnRecovery(RecordsReader(log), CassandraSinkSettings())
    assert await recovery.find(PARTITION, ["no id"], 4) == {"no id": None}
    assert await recovery.find(PARTITION, [turn_id_of(2)], 4) == {turn_id_of(2): None}


@pytest.mark.parametrize(("end", "reason"), [(failed(1), FinishReason.FAILED), (cancelled(1), FinishReason.CANCELLED)])
async def test_a_turn_cut_short_is_found_by_its_id_with_the_pieces_it_had(
    end: TokenEvent, reason: FinishReason
) -> None:
    sink = Sink()
    await sink.take(cleared(1), fence(1), delta(1, 0, "Hé"), delta(1, 1, ""), delta(1, 2, "llo"), end)
    stored = await sink.rows.find(turn_id_of(1))
    assert stored is not None
    assert (stored.finish_reason, stored.usage) == (reason, None)
    assert [piece.text for piece in stored.pieces] == ["Hé", "", "llo"]


async def test_a_turn_is_no_longer_active_before_it_is_persisted() -> None:
    sink = Sink()
    sink.active.failures_left = 1
    sink.log.add(*answer(1, "x"))
    with pytest.raises(Retryable):
        await sink.read_on(4)
    assert (sink.log.appended, sink.active.ended) == ([], {})
    await sink.read_on(4)
    assert (len(sink.log.appended), sink.active.ended) == (1, {turn_id_of(1): "c1"})
