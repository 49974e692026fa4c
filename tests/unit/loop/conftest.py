"""What the loop's tests run on: a log in memory, metrics that count, and stages of a few lines."""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from consumers.dispatch import HoldLimits
from consumers.retry import RetryPolicy
from consumers.work import BatchWork, Environment, KeyedSettings, KeyedWork, LoopSettings, SinkWork
from schemas import ids, metrics, serde
from schemas.events import TurnCancelled
from schemas.ports import BatchProcess, KeyedProcess, LogSink, Received
from schemas.topics import Key, Topic
from tests.support.memory_log import MemoryGroupConsumer, MemoryLog, MemoryProducer

SOURCE = Topic(
    name="test.source.v1",
    event=TurnCancelled,
    key=Key.TURN,
    partitions=4,
    retention_hours=1,
    producer="test",
    groups=("turnstream.test",),
    summary="A small event for tests of the loop.",
)
SINK = Topic(
    name="test.sink.v1",
    event=TurnCancelled,
    key=Key.TURN,
    partitions=4,
    retention_hours=1,
    producer="test",
    groups=(),
    summary="Where the tests' stages write.",
)
GROUP = "turnstream.test"
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
FAST_RETRY = RetryPolicy(first_delay_s=0.001, delay_seconds_max=0.004, total_seconds_max=10)


class CountingMetrics:
    """Metrics whose sums a test can look at."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.gauges: dict[str, float] = {}
        self.observed: Counter[str] = Counter()

    def count(self, name: metrics.Counter, amount: float = 1, **labels: str) -> None:
        assert set(labels) == set(metrics.METRICS[name].labels)
        self.counts[":".join((name, *labels.values()))] += int(amount)

    def gauge(self, name: metrics.Gauge, value: float, **labels: str) -> None:
        assert set(labels) == set(metrics.METRICS[name].labels)
        self.gauges[name] = value

    def observe(self, name: metrics.Histogram, value: float, **labels: str) -> None:
        assert set(labels) == set(metrics.METRICS[name].labels)
        assert value >= 0
        self.observed[name] += 1


@dataclass
class Bench:
    """A broker, one member of the group, and how to run loops on them."""

    log: MemoryLog
    consumer: MemoryGroupConsumer
    producer: MemoryProducer
    metrics: CountingMetrics = field(default_factory=CountingMetrics)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    waits: list[float] = field(default_factory=list)

    def put(self, key: str, reason: str = "client", partition: int | None = None) -> str:
        """Append an event; returns the turn id that it carries."""
        turn_id = ids.new_turn_id(1_700_000_000_000, 0, len(self.log.records(SOURCE.name)).to_bytes(8))
        value = b'{"turn_id": "%s", "reason": "%s"}' % (turn_id.encode(), reason.encode())
        headers = serde.event_headers(SOURCE, turn_id, TRACEPARENT)
        self.log.put(SOURCE.name, key.encode(), value, headers, partition)
        return turn_id

    def batch_work(self, process: BatchProcess, **settings: Any) -> BatchWork:
        chosen = LoopSettings(**{"poll_seconds_max": 0.01, "retry": FAST_RETRY, **settings})
        return BatchWork(process=process, settings=chosen, **self._common())

    def sink_work(self, sink: LogSink, **settings: Any) -> SinkWork:
        chosen = LoopSettings(**{"poll_seconds_max": 0.01, "retry": FAST_RETRY, **settings})
        return SinkWork(sink=sink, settings=chosen, **self._common())

    def keyed_work(self, process: KeyedProcess, hold: HoldLimits | None = None, **settings: Any) -> KeyedWork:
        given = {
            "poll_seconds_max": 0.01,
            "retry": FAST_RETRY,
            "record_retry": FAST_RETRY.model_copy(update={"attempts_max": 3}),
            "commit_interval_s": 0.001,
            "drain_seconds_max": 1,
            "hold": hold or HoldLimits(),
            **settings,
        }
        return KeyedWork(process=process, settings=KeyedSettings(**given), **self._common())

    async def run(self, loop: Coroutine[Any, Any, None], until: Callable[[], bool]) -> None:
        """Run ``loop`` until the condition holds, then stop it."""
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(loop)
            await self.log.until(lambda: until() or running.done())
            self.stop.set()

    def committed(self) -> int:
        """How many records the group has behind it."""
        return sum(self.log.committed(GROUP).values())

    def _common(self) -> dict[str, Any]:
        return {
            "stage": "test",
            "source": SOURCE,
            "consumer": self.consumer,
            "producer": self.producer,
            "metrics": self.metrics,
            "environment": Environment(sleep=self._sleep, jitter=lambda: 1.0),
        }

    async def _sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        await asyncio.sleep(0)


def turn_ids(batch: Sequence[Received[Any]]) -> list[str]:
    return [received.event.turn_id for received in batch]


@pytest.fixture
async def bench() -> Any:
    log = MemoryLog()
    async with log.consumer(GROUP, [SOURCE.name]) as consumer:
        yield Bench(log, consumer, log.producer())
