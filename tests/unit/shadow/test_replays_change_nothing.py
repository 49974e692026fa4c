"""A record that is marked as a replay, on a live topic: whoever reads it, nothing comes of it."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Final

import pytest

from consumers.loop import run_batches, run_keyed, run_sink
from consumers.sse.core import SseSettings, StreamBroken, draining
from consumers.sse.live_feed import LiveFeed
from consumers.sse.resume_place import state_before
from consumers.sse.turn_reader import TurnReader
from consumers.usage_rows.stage import StoreUsage
from consumers.work import BatchWork, KeyedSettings, KeyedWork, LoopSettings, SinkWork
from schemas import serde
from schemas.cursors import Cursor
from schemas.event import Event
from schemas.headers import REPLAY
from schemas.ports import KeyedProcess, LogSink, Received, Record, TopicPartition
from schemas.stream_state import INITIAL, StreamState
from schemas.topics import INFERENCE_REQUESTS, MODERATION_DECISIONS, TOKENS, USAGE_EVENTS, Topic
from stream_processors.topology import ROWS, StageRow
from stream_processors.windows.faust_records import Write, live_events
from tests.support.answer_records import answer, cleared, turn_id_of
from tests.support.memory_log import MemoryLog
from tests.support.memory_stores import MemoryUsageRows
from tests.support.processor_world import SAMPLES, ProcessorWorld, used
from tests.support.turn_events import CountedMetrics, prompted, turn, turn_id, user
from turnstream.log.turn_lookup import LogTurnLookup, TurnLookupSettings

MARK: Final = ((REPLAY, b"shadow-1"),)
PARTITIONS: Final = 8
LOOP: Final = LoopSettings(poll_seconds_max=0.01, commit_interval_s=0.001)
KEYED: Final = KeyedSettings(poll_seconds_max=0.01, commit_interval_s=0.001)


class Untouched:
    """A sink and a stage of long work that fail when they are given anything."""

    async def write(self, batch: Sequence[Received[Any]]) -> None:
        raise AssertionError(f"given {len(batch)} replays")

    async def __call__(self, received: Received[Any]) -> None:
        raise AssertionError(f"given {received.event.turn.turn_id}")

    def safe_position(self, partition: TopicPartition, position: int) -> int:
        del partition
        return position

    def forget(self, partitions: frozenset[TopicPartition]) -> None: ...


def put(log: MemoryLog, topic: Topic, event: Event, name: str) -> None:
    marks = (*serde.event_headers(topic, name), *MARK)
    partition = 3 if topic is TOKENS else None
    log.put(topic.name, name.encode(), serde.encode(event), marks, partition)


async def run(
    log: MemoryLog, source: Topic, loop: Callable[[Any, asyncio.Event], Coroutine[Any, Any, None]], make: Any
) -> None:
    """Run a loop over ``source`` until it has everything behind it."""
    stop = asyncio.Event()
    async with log.consumer("group", [source.name]) as consumer, asyncio.TaskGroup() as tasks:
        work = make(stage="test", source=source, consumer=consumer, producer=log.producer(), metrics=CountedMetrics())
        running = tasks.create_task(loop(work, stop))
        records = len(log.records(source.name))
        await log.until(lambda: sum(log.committed("group").values()) == records or running.done())
        stop.set()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
async def test_a_processor_passes_it_over(row: StageRow) -> None:
    log, world = MemoryLog(PARTITIONS), ProcessorWorld()
    # A store that is asked would raise, and the record be given again for ever.
    world.set_down(down=True)
    (sample,) = [one for one in SAMPLES if one.row is row]
    put(log, row.source, sample.passing(1), turn_id(1))
    await run(
        log, row.source, run_batches, lambda **ports: BatchWork(process=world.processes()[row], settings=LOOP, **ports)
    )
    assert log.topics() == [row.source.name]


async def test_usage_rows_store_no_bill() -> None:
    log, rows = MemoryLog(PARTITIONS), MemoryUsageRows()
    put(log, USAGE_EVENTS, used(1), turn_id(1))
    await run(
        log, USAGE_EVENTS, run_batches, lambda **ports: BatchWork(process=StoreUsage(rows), settings=LOOP, **ports)
    )
    assert rows.rows == {}


@pytest.mark.parametrize("source", [TOKENS, USAGE_EVENTS], ids=["cassandra_sink", "usage_sink"])
async def test_a_sink_is_not_given_it(source: Topic) -> None:
    log, sink = MemoryLog(PARTITIONS), Untouched()
    written: LogSink = sink
    for event in answer(1, "x") if source is TOKENS else [used(1)]:
        put(log, source, event, turn_id_of(1))
    await run(log, source, run_sink, lambda **ports: SinkWork(sink=written, settings=LOOP, **ports))
    assert log.topics() == [source.name]


async def test_inference_does_not_generate_it() -> None:
    log, topic = MemoryLog(PARTITIONS), INFERENCE_REQUESTS["fast"]
    process: KeyedProcess = Untouched()
    put(log, topic, prompted(turn(1), user("hello")), turn_id(1))
    await run(log, topic, run_keyed, lambda **ports: KeyedWork(process=process, settings=KEYED, **ports))
    assert log.topics() == [topic.name]


@pytest.mark.parametrize("source", [USAGE_EVENTS, MODERATION_DECISIONS], ids=lambda topic: topic.name)
def test_windows_count_it_in_no_rollup_and_no_signal(source: Topic) -> None:
    message = SimpleNamespace(headers=list(MARK), topic=source.name, partition=0, offset=0, key=b"k")
    record, buried = SimpleNamespace(message=message, value=b"{not json"), list[Write]()
    assert list(live_events([record], {source.name: source}, buried)) == []
    assert buried == []


@dataclass
class Backlog:
    """A turn's records on the log, for a reader that is told to stop when it has read them all."""

    records: Sequence[Record]
    key: bytes = turn_id_of(1).encode()
    feed: LiveFeed = field(default_factory=lambda: LiveFeed("edge"))

    def position(self) -> int:
        return len(self.records)

    async def read(self, start: int, stop: int) -> Sequence[Record]:
        return self.records[start:stop]

    def attach(self, reader: TurnReader, state: StreamState) -> None:
        self.feed.attach(self.key, reader, state)
        reader.break_off(StreamBroken(draining()))

    async def joined(self) -> None: ...

    def fell_behind(self, reader: TurnReader) -> None:
        raise AssertionError(reader)

    def leave(self, reader: TurnReader) -> None:
        raise AssertionError(reader)


async def test_the_edge_shows_it_to_nobody() -> None:
    log = MemoryLog(PARTITIONS)
    for event in answer(1, "x"):
        put(log, TOKENS, event, turn_id_of(1))
    source = Backlog(log.records(TOKENS.name))
    reader = TurnReader(source, SseSettings(), INITIAL, 0)
    with pytest.raises(StreamBroken):
        await reader.wait(0)
    assert all(source.feed.take(record) for record in source.records)
    live = source.feed.find(turn_id_of(1))
    assert live is not None
    assert live.state is INITIAL
    assert state_before(source.records[2], cleared(1), Cursor(seq=0, offset=2)) is None


async def test_a_turn_is_not_found_by_it() -> None:
    log = MemoryLog(PARTITIONS)
    log.now_ms += 1_000
    for event in answer(1, "x"):
        put(log, TOKENS, event, turn_id_of(1))
    lookup = LogTurnLookup(log.reader(), TurnLookupSettings())
    assert await lookup.find(turn_id_of(1)) is INITIAL
    assert await lookup.clearance(turn_id_of(1)) is None
