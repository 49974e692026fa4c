"""The usage sink on a log in memory: what is published, what is committed, and what a crash between them costs."""

import asyncio
import json
from dataclasses import dataclass, field
from pathlib import Path

from consumers.loop import run_sink
from consumers.retry import RetryPolicy
from consumers.usage_sink.core import UsageSinkSettings
from consumers.usage_sink.fsspec_lake import FsspecLake
from consumers.usage_sink.stage import WriteUsage, run_rolls
from consumers.work import LoopSettings, SinkWork
from schemas import headers, serde
from schemas.events import UsageRecorded
from schemas.ports import Received, Record, TopicPartition
from schemas.topics import USAGE_EVENTS
from tests.support.memory_log import MemoryGroupConsumer, MemoryLog
from tests.support.turn_events import CountedMetrics
from tests.support.usage_events import append, rows_in, sums_on_log, unused_event, usage_event

GROUP = "turnstream.usage_sink"
P0 = TopicPartition(USAGE_EVENTS.name, 0)
LOOP = LoopSettings(
    poll_seconds_max=0.01,
    commit_interval_s=0.001,
    retry=RetryPolicy(first_delay_s=0.001, delay_seconds_max=0.004, total_seconds_max=10),
)
FULL_AT_TWO = UsageSinkSettings(file_rows_max=2, file_seconds_max=1e6)


@dataclass
class World:
    """A log of one partition, a folder, and owners that come and go."""

    folder: Path
    log: MemoryLog = field(default_factory=lambda: MemoryLog(partitions=1))
    metrics: CountedMetrics = field(default_factory=CountedMetrics)
    now_s: float = 0.0

    def sink(self, settings: UsageSinkSettings = FULL_AT_TWO) -> WriteUsage:
        return WriteUsage(FsspecLake(str(self.folder), {}), settings, self.metrics, lambda: self.now_s)

    def work(self, member: MemoryGroupConsumer, sink: WriteUsage) -> SinkWork:
        return SinkWork(
            stage="usage_sink",
            source=USAGE_EVENTS,
            consumer=member,
            producer=self.log.producer(),
            metrics=self.metrics,
            sink=sink,
            settings=LOOP,
        )

    async def until_committed(self, offset: int, sink: WriteUsage | None = None) -> None:
        """Run one owner until the group is at ``offset``."""
        stop = asyncio.Event()
        async with self.log.consumer(GROUP, (USAGE_EVENTS.name,)) as member, asyncio.TaskGroup() as tasks:
            running = tasks.create_task(run_sink(self.work(member, sink or self.sink()), stop))
            await self.log.until(lambda: self.committed >= offset or running.done())
            stop.set()

    @property
    def committed(self) -> int:
        return self.log.committed(GROUP).get(P0, 0)

    def offsets(self) -> list[int]:
        return [row["log_offset"] for row in rows_in(self.folder)]


async def test_only_what_is_in_a_file_may_be_committed(tmp_path: Path) -> None:
    world = World(tmp_path)
    batch = [serde_received(append(world.log, usage_event(number))) for number in range(5)]
    sink = world.sink(UsageSinkSettings(file_rows_max=5))
    await sink.write(batch[:3])
    assert (world.offsets(), sink.safe_position(P0, 3)) == ([], 0)
    await sink.write(batch[3:])
    assert (world.offsets(), sink.safe_position(P0, 5)) == ([0, 1, 2, 3, 4], 5)


async def test_a_store_that_fails_for_a_while_gets_the_same_batch_once(tmp_path: Path) -> None:
    """The loop gives a batch again; what it left in memory is not taken twice."""
    world = World(tmp_path / "usage")
    for number in range(4):
        append(world.log, usage_event(number))
    (tmp_path / "usage").write_text("a file where the folder should be")
    sink, stop = world.sink(), asyncio.Event()
    retries = ("turnstream_record_retries_total", "stage=usage_sink")
    async with world.log.consumer(GROUP, (USAGE_EVENTS.name,)) as member, asyncio.TaskGroup() as tasks:
        running = tasks.create_task(run_sink(world.work(member, sink), stop))
        await world.log.until(lambda: world.metrics.counts.get(retries, 0) >= 2 or running.done())
        (tmp_path / "usage").unlink()
        await world.log.until(lambda: world.committed == 4 or running.done())
        stop.set()
    assert world.offsets() == [0, 1, 2, 3]


async def test_a_crash_between_publishing_and_committing_repeats_no_row(tmp_path: Path) -> None:
    world = World(tmp_path)
    for number in range(4):
        append(world.log, usage_event(number))
    world.log.fail_next_commit(times=10_000)
    stop = asyncio.Event()
    async with world.log.consumer(GROUP, (USAGE_EVENTS.name,)) as member, asyncio.TaskGroup() as tasks:
        running = tasks.create_task(run_sink(world.work(member, world.sink()), stop))
        await world.log.until(lambda: len(world.offsets()) == 4 or running.done())
        running.cancel()
    assert world.committed == 0
    world.log._commit_faults = 0
    append(world.log, usage_event(4))
    await world.until_committed(5, world.sink(UsageSinkSettings(file_rows_max=5)))
    assert world.offsets() == [0, 1, 2, 3, 4]


async def test_two_owners_at_once_repeat_no_row(tmp_path: Path) -> None:
    """One was stopped, replaced and woke up: it does not know yet, and both hold the same rows."""
    world = World(tmp_path)
    records = [append(world.log, usage_event(number)) for number in range(6)]
    batch = [serde_received(record) for record in records]
    settings = UsageSinkSettings(file_seconds_max=10)
    asleep, awake = world.sink(settings), world.sink(settings)
    await asleep.write(batch[:4])
    await awake.write(batch[:3])
    world.now_s = 10
    await awake.publish_due()
    await asleep.publish_due()
    await awake.write(batch[3:])
    world.now_s = 20
    await awake.publish_due()
    assert world.offsets() == [0, 1, 2, 3, 4, 5]


async def test_old_rows_are_published_although_no_more_come(tmp_path: Path) -> None:
    world = World(tmp_path)
    settings = UsageSinkSettings(file_seconds_max=10, roll_check_seconds=0.001)
    sink, stop = world.sink(settings), asyncio.Event()
    await sink.write([serde_received(append(world.log, usage_event(1)))])
    assert sink.safe_position(P0, 1) == 0
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(run_rolls(sink, settings, world.metrics, stop))
        world.now_s = 10
        await world.log.until(lambda: sink.safe_position(P0, 1) == 1)
        stop.set()
    assert world.offsets() == [0]


async def test_a_partition_that_was_taken_away_leaves_nothing_behind(tmp_path: Path) -> None:
    world = World(tmp_path)
    sink = world.sink(UsageSinkSettings(file_seconds_max=10))
    await sink.write([serde_received(append(world.log, usage_event(1)))])
    sink.forget(frozenset({P0}))
    world.now_s = 10
    await sink.publish_due()
    assert (world.offsets(), sink.safe_position(P0, 7)) == ([], 7)


async def test_the_sum_over_the_files_is_the_sum_over_the_log(tmp_path: Path) -> None:
    """Repeats in one file are left out; a used bill beats an unused one; a replay and poison are no bills."""
    world = World(tmp_path)
    for event in (unused_event(1), usage_event(1), usage_event(1), usage_event(2), unused_event(3), usage_event(4)):
        append(world.log, event)
    bills = [record.value for record in world.log.records(USAGE_EVENTS.name)]
    replayed = ((headers.REPLAY, b"run"), *serde.event_headers(USAGE_EVENTS, None, None))
    world.log.put(USAGE_EVENTS.name, b"u", serde.encode(usage_event(9)), replayed)
    world.log.put(USAGE_EVENTS.name, b"u", b"no bill", serde.event_headers(USAGE_EVENTS, None, None))
    append(world.log, usage_event(5))
    bills.append(serde.encode(usage_event(5)))
    await world.until_committed(9, world.sink(UsageSinkSettings(file_rows_max=7)))
    rows = rows_in(tmp_path)
    sums = [sum(row[name] for row in rows) for name in ("input_tokens", "output_tokens", "cost_nano_usd")]
    assert (len(rows), *sums) == sums_on_log(bills)
    assert world.metrics.counts["turnstream_usage_rows_total", "outcome=written"] == 5
    assert world.metrics.counts["turnstream_usage_rows_total", "outcome=repeated"] == 2
    (letter,) = world.log.records(USAGE_EVENTS.dlq)
    assert letter.value == b"no bill"
    assert json.loads(bills[0])["attempt"] == 0


def serde_received(record: Record) -> Received[UsageRecorded]:
    return Received(serde.decode(USAGE_EVENTS, record.value), record, None)
