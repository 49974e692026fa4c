from collections.abc import Sequence
from typing import Any

import pytest

from consumers.loop import run_sink
from schemas.errors import Retryable
from schemas.headers import REPLAY
from schemas.ports import Received, TopicPartition
from tests.unit.loop.conftest import GROUP, SOURCE, Bench, turn_ids


class Sink:
    """Keeps what it is given; holds everything from ``hold`` on as not safe yet."""

    def __init__(self, *plan: Exception, hold: int | None = None) -> None:
        self.plan = list(plan)
        self.hold = hold
        self.calls: list[list[str]] = []
        self.forgotten: set[TopicPartition] = set()

    async def write(self, batch: Sequence[Received[Any]]) -> None:
        self.calls.append(turn_ids(batch))
        if self.plan:
            raise self.plan.pop(0)

    def safe_position(self, partition: TopicPartition, position: int) -> int:
        del partition
        return position if self.hold is None else min(position, self.hold)

    def forget(self, partitions: frozenset[TopicPartition]) -> None:
        self.forgotten |= partitions


async def test_records_are_written_in_log_order_and_committed(bench: Bench) -> None:
    sent = [bench.put("same") for _ in range(20)]
    sink = Sink()
    await bench.run(run_sink(bench.sink_work(sink, batch_records_max=3), bench.stop), lambda: bench.committed() == 20)
    assert [turn for call in sink.calls for turn in call] == sent


async def test_only_the_safe_position_is_committed(bench: Bench) -> None:
    for _ in range(5):
        bench.put("same", partition=1)
    sink = Sink(hold=2)
    await bench.run(run_sink(bench.sink_work(sink), bench.stop), lambda: bench.committed() == 2)
    assert bench.log.committed(GROUP) == {TopicPartition(SOURCE.name, 1): 2}


async def test_the_safe_position_is_committed_when_it_moves_without_records(bench: Bench) -> None:
    bench.put("same", partition=1)
    sink = Sink(hold=0)
    work = bench.sink_work(sink)

    def released() -> bool:
        if sink.calls:
            sink.hold = None
        return bench.committed() == 1

    await bench.run(run_sink(work, bench.stop), released)
    assert len(sink.calls) == 1


async def test_a_retryable_gives_the_same_batch_again(bench: Bench) -> None:
    bench.put("a")
    bench.put("b")
    sink = Sink(Retryable("down"), Retryable("down"))
    await bench.run(run_sink(bench.sink_work(sink), bench.stop), lambda: bench.committed() == 2)
    assert sink.calls[0] == sink.calls[1] == sink.calls[2]


async def test_malformed_records_are_buried_and_passed(bench: Bench) -> None:
    bench.log.put(SOURCE.name, b"a", b"{")
    good = bench.put("a")
    sink = Sink()
    await bench.run(run_sink(bench.sink_work(sink), bench.stop), lambda: bench.committed() == 2)
    assert [turn for call in sink.calls for turn in call] == [good]
    assert len(bench.log.records(SOURCE.dlq)) == 1


async def test_lost_partitions_are_forgotten(bench: Bench) -> None:
    for partition in range(4):
        bench.put("k", partition=partition)
    sink = Sink()
    other = bench.log.consumer(GROUP, [SOURCE.name])
    await bench.run(run_sink(bench.sink_work(sink), bench.stop), lambda: bench.committed() == 4)
    async with other:
        assert sink.forgotten == other.assignment()
        assert sink.forgotten


async def test_a_sink_that_crashes_ends_the_loop_uncommitted(bench: Bench) -> None:
    bench.put("a")
    with pytest.raises(KeyError):
        await run_sink(bench.sink_work(Sink(KeyError("bug"))), bench.stop)
    assert bench.committed() == 0


async def test_a_replayed_record_is_passed_over(bench: Bench) -> None:
    bench.log.put(SOURCE.name, b"k", b"{not json", ((REPLAY, b"run-1"),), partition=1)
    sent = bench.put("k", partition=1)
    sink = Sink()
    await bench.run(run_sink(bench.sink_work(sink), bench.stop), lambda: bench.committed() == 2)
    assert sink.calls == [[sent]]
    assert bench.log.records(SOURCE.dlq) == []
    assert bench.metrics.counts["turnstream_records_total:test:replayed"] == 1
