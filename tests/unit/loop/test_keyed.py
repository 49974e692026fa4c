import asyncio
from collections import defaultdict
from typing import Any

import pytest

from consumers.dispatch import HoldLimits
from consumers.loop import run_keyed
from consumers.retry import RetryPolicy
from schemas import headers
from schemas.errors import Fatal, Malformed, Retryable
from schemas.headers import header
from schemas.ports import Received
from tests.unit.loop.conftest import GROUP, SOURCE, Bench


class Gate:
    """Work that a test holds back and lets go: every record waits for its key's event."""

    def __init__(self, bench: Bench) -> None:
        self.started: list[str] = []
        self.finished: list[str] = []
        self.cancelled: list[str] = []
        self.open: dict[bytes, asyncio.Event] = defaultdict(asyncio.Event)
        self._log = bench.log

    async def __call__(self, received: Received[Any]) -> None:
        turn_id = received.event.turn_id
        self.started.append(turn_id)
        self._log.wake()
        try:
            await self.open[received.record.key or b""].wait()
        except asyncio.CancelledError:
            self.cancelled.append(turn_id)
            raise
        self.finished.append(turn_id)
        self._log.wake()

    def release(self, *keys: str) -> None:
        for key in keys:
            self.open[key.encode()].set()


async def test_keys_run_at_once_and_each_in_order(bench: Bench) -> None:
    first = [bench.put("a"), bench.put("a"), bench.put("a")]
    second = bench.put("b")
    gate = Gate(bench)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(run_keyed(bench.keyed_work(gate), bench.stop))
        await bench.log.until(lambda: len(gate.started) == 2)
        assert set(gate.started) == {first[0], second}
        gate.release("a", "b")
        await bench.log.until(lambda: bench.committed() == 4)
        bench.stop.set()
        await running
    assert [turn for turn in gate.finished if turn != second] == first


async def test_the_commit_stays_before_what_is_still_in_work(bench: Bench) -> None:
    slow, quick = bench.put("slow", partition=0), bench.put("quick", partition=0)
    bench.put("other", partition=1)
    gate = Gate(bench)
    gate.release("quick", "other")
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(run_keyed(bench.keyed_work(gate), bench.stop))
        await bench.log.until(lambda: quick in gate.finished and bench.committed() == 1)
        assert slow not in gate.finished
        assert {partition.partition for partition in bench.log.committed(GROUP)} == {1}
        gate.release("slow")
        await bench.log.until(lambda: bench.committed() == 3)
        bench.stop.set()
        await running


async def test_no_more_than_in_flight_max_run_at_once(bench: Bench) -> None:
    for number in range(10):
        bench.put(f"key{number}")
    gate = Gate(bench)
    work = bench.keyed_work(gate, HoldLimits(in_flight_max=3))
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(run_keyed(work, bench.stop))
        await bench.log.until(lambda: len(gate.started) == 3)
        polls = bench.consumer.polls
        await bench.log.until(lambda: bench.consumer.polls > polls + 1)
        assert len(gate.started) == 3
        gate.release(*[f"key{number}" for number in range(10)])
        await bench.log.until(lambda: bench.committed() == 10)
        bench.stop.set()
        await running


async def test_a_full_partition_is_paused_and_resumed(bench: Bench) -> None:
    for _ in range(20):
        bench.put("a", partition=0)
    gate = Gate(bench)
    work = bench.keyed_work(gate, HoldLimits(held_per_partition_records_max=4), batch_records_max=4)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(run_keyed(work, bench.stop))
        await bench.log.until(lambda: len(gate.started) == 1)
        await bench.log.until(lambda: bool(bench.consumer.paused))
        assert {partition.partition for partition in bench.consumer.paused} == {0}
        gate.release("a")
        await bench.log.until(lambda: bench.committed() == 20)
        bench.stop.set()
        await running
    assert not bench.consumer.paused


async def test_one_slow_record_lets_a_partition_run_ahead_only_so_far(bench: Bench) -> None:
    for number in range(20):
        bench.put("slow" if number == 0 else f"quick{number}", partition=0)
    gate = Gate(bench)
    for number in range(1, 20):
        gate.release(f"quick{number}")
    work = bench.keyed_work(gate, HoldLimits(uncommitted_records_max=6), batch_records_max=3)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(run_keyed(work, bench.stop))
        await bench.log.until(lambda: bool(bench.consumer.paused))
        assert len(gate.started) <= 6
        gate.release("slow")
        await bench.log.until(lambda: bench.committed() == 20)
        bench.stop.set()
        await running


async def test_a_retryable_is_tried_again_with_growing_delays(bench: Bench) -> None:
    bench.put("a")
    tries = 0

    async def flaky(received: Received[Any]) -> None:
        nonlocal tries
        del received
        tries += 1
        await asyncio.sleep(0)
        if tries < 3:
            raise Retryable("down")

    policy = RetryPolicy(attempts_max=5, first_delay_s=1, delay_seconds_max=60)
    await bench.run(run_keyed(bench.keyed_work(flaky, record_retry=policy), bench.stop), lambda: bench.committed() == 1)
    assert bench.waits == [1, 2]
    assert bench.log.records(SOURCE.dlq) == []


@pytest.mark.parametrize("poison", [Malformed("no"), Retryable("always"), KeyError("a bug")])
async def test_poison_is_buried_and_blocks_neither_key_nor_partition(bench: Bench, poison: Exception) -> None:
    bad, good = bench.put("a"), bench.put("a")
    done: list[str] = []

    async def process(received: Received[Any]) -> None:
        await asyncio.sleep(0)
        if received.event.turn_id == bad:
            raise poison
        done.append(received.event.turn_id)

    await bench.run(run_keyed(bench.keyed_work(process), bench.stop), lambda: bench.committed() == 2)
    assert done == [good]
    (letter,) = bench.log.records(SOURCE.dlq)
    assert header(letter.headers, headers.TURN) == bad


async def test_what_cannot_be_decoded_is_buried(bench: Bench) -> None:
    bench.log.put(SOURCE.name, None, b"{")
    await bench.run(run_keyed(bench.keyed_work(Gate(bench)), bench.stop), lambda: bench.committed() == 1)
    assert len(bench.log.records(SOURCE.dlq)) == 1


async def test_a_dead_letter_is_written_even_if_the_log_fails_at_first(bench: Bench) -> None:
    bench.log.put(SOURCE.name, b"a", b"{")
    bench.log.fail_next_append(landing=False, times=2)
    await bench.run(run_keyed(bench.keyed_work(Gate(bench)), bench.stop), lambda: bench.committed() == 1)
    assert len(bench.log.records(SOURCE.dlq)) == 1


async def test_a_log_that_takes_no_dead_letter_ends_the_process(bench: Bench) -> None:
    bench.log.put(SOURCE.name, b"a", b"{")
    bench.log.fail_next_append(landing=False, times=100)
    policy = RetryPolicy(attempts_max=3)
    with pytest.raises(Fatal, match="dead letter"):
        await run_keyed(bench.keyed_work(Gate(bench), retry=policy), bench.stop)
    assert bench.committed() == 0


async def test_work_on_a_lost_partition_is_cancelled_and_not_committed(bench: Bench) -> None:
    turns = {partition: bench.put("k", partition=partition) for partition in range(4)}
    gate = Gate(bench)
    other = bench.log.consumer(GROUP, [SOURCE.name])
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(run_keyed(bench.keyed_work(gate), bench.stop))
        await bench.log.until(lambda: len(gate.started) == 4)
        bench.log.group(GROUP).join(other)
        gate.release("k")
        await bench.log.until(lambda: bench.committed() == 2)
        bench.stop.set()
        await running
    lost = {turns[partition.partition] for partition in other.assignment()}
    assert set(gate.cancelled) == lost
    assert set(gate.finished) == set(turns.values()) - lost


async def test_a_kept_partition_goes_on_through_a_rebalance(bench: Bench) -> None:
    turns = [bench.put("k", partition=partition) for partition in range(4)]
    gate = Gate(bench)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(run_keyed(bench.keyed_work(gate), bench.stop))
        await bench.log.until(lambda: len(gate.started) == 4)
        async with bench.log.consumer(GROUP, [SOURCE.name]) as other:
            lost = {turns[partition.partition] for partition in other.assignment()}
        gate.release("k")
        await bench.log.until(lambda: bench.committed() == 4)
        bench.stop.set()
        await running
    assert set(gate.cancelled) == lost
    assert sorted(gate.finished) == sorted(turns)


async def test_a_stop_waits_for_work_in_flight_and_starts_nothing_new(bench: Bench) -> None:
    first, second = bench.put("a"), bench.put("a")
    gate = Gate(bench)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(run_keyed(bench.keyed_work(gate), bench.stop))
        await bench.log.until(lambda: gate.started == [first])
        bench.stop.set()
        gate.release("a")
        await running
    assert gate.finished == [first]
    assert second not in gate.started
    assert bench.committed() == 1


async def test_the_drain_is_bounded(bench: Bench) -> None:
    turn = bench.put("a")
    gate = Gate(bench)
    await bench.run(run_keyed(bench.keyed_work(gate, drain_seconds_max=0), bench.stop), lambda: bool(gate.started))
    assert gate.cancelled == [turn]
    assert bench.committed() == 0


async def test_a_replayed_record_is_passed_over(bench: Bench) -> None:
    bench.log.put(SOURCE.name, b"k", b"{not json", ((headers.REPLAY, b"run-1"),))
    gate = Gate(bench)
    await bench.run(run_keyed(bench.keyed_work(gate), bench.stop), lambda: bench.committed() == 1)
    assert gate.started == []
    assert bench.log.records(SOURCE.dlq) == []
    assert bench.metrics.counts["turnstream_records_total:test:replayed"] == 1
