"""One aiokafka producer from its start to its first failure, and the records on their way through it.

Group commit: records wait per partition while that partition's batch is on its way, then leave together. So one
append of many records and many appends of one record cost about the same, without a task or a future per record.
"""

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, NamedTuple

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from schemas.errors import Malformed
from schemas.ports import Outgoing, TopicPartition
from turnstream.log.partitioning import partition_of_key
from turnstream.log.settings import KafkaSettings

log = structlog.get_logger()

_WATCHES_PER_LIMIT: Final = 20


class Batch:
    """Records of one partition that leave together."""

    def __init__(self, builder: Any, opened_s: float) -> None:
        self.builder: Final = builder
        self.opened_s: Final = opened_s
        self.records = 0
        self.finished = False
        self._base_offset: int | None = None
        self._waiters: list[asyncio.Future[None]] = []

    async def landed(self) -> int | None:
        """The offset of its first record, once it is on the log; None when nobody knows whether it is."""
        if not self.finished:
            # One each: whoever waits may be cancelled, and the batch carries the records of others too.
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter
        return self._base_offset

    def finish(self, base_offset: int | None) -> None:
        """Tell all who wait."""
        self.finished, self._base_offset = True, base_offset
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)


class Place(NamedTuple):
    """Where a record went: its offset is the batch's base offset plus ``nth``."""

    batch: Batch
    nth: int


@dataclass(slots=True, eq=False)
class _Lane:
    """One partition: batches that wait, and the one that is on its way."""

    partition: TopicPartition
    waiting: deque[Batch] = field(default_factory=deque)
    sending: Batch | None = None
    records_total: int = 0

    @property
    def oldest_s(self) -> float:
        """When the oldest of its batches was opened, on the loop's clock; infinite without one."""
        waiting = self.waiting[0] if self.waiting else None
        oldest = waiting if self.sending is None or self.sending.finished else self.sending
        return math.inf if oldest is None else oldest.opened_s


class ProducerSession:
    """Wraps one idempotent aiokafka producer; the first failed batch makes it unusable for good.

    After a failed batch every later send of an idempotent aiokafka producer may fail with OutOfOrderSequence
    for ever, so a session is never repaired, only replaced.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._linger_s = settings.linger_ms / 1000
        self._kafka = AIOKafkaProducer(
            bootstrap_servers=settings.bootstrap_servers,
            client_id=settings.client_id,
            acks="all",
            enable_idempotence=True,
            compression_type=settings.compression,
            max_batch_size=settings.batch_bytes_max,
            linger_ms=0,
            request_timeout_ms=int(settings.append_seconds_max * 1000),
        )
        self._lanes: dict[TopicPartition, _Lane] = {}
        self._partitions: dict[str, int] = {}
        self._ready: deque[_Lane] = deque()
        self._work = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._pending = 0
        self.failed = False
        self.exhausted = False

    @property
    def usable(self) -> bool:
        """Whether new records may be given to it."""
        return not (self.failed or self.exhausted)

    @property
    def pending(self) -> int:
        """Records handed over and not acknowledged yet."""
        return self._pending

    async def start(self) -> None:
        """Connect and get a producer id. Raises KafkaError or TimeoutError; then nothing stays open."""
        started = False
        try:
            async with asyncio.timeout(self._settings.start_seconds_max):
                await self._kafka.start()
            started = True
        finally:
            if not started:
                await self._kafka.stop()

    def takes(self, records: Sequence[Outgoing]) -> bool:
        """Whether ``records`` may be given to it right away."""
        if not self.usable or self._pending + len(records) > self._settings.records_pending_max:
            return False
        return all(record.topic in self._partitions for record in records)

    async def learn_partitions(self, topic: str) -> None:
        """Find out how many partitions ``topic`` has, once. Raises KafkaError if the broker does not know it."""
        if topic not in self._partitions:
            self._partitions[topic] = len(await self._kafka.partitions_for(topic))

    def locate(self, record: Outgoing) -> TopicPartition:
        """The partition of ``record``. Raises Malformed when it names one that does not exist."""
        count = self._partitions[record.topic]
        if record.partition is None:
            return TopicPartition(record.topic, partition_of_key(record.key, count))
        if not 0 <= record.partition < count:
            raise Malformed(f"{record.topic} has no partition {record.partition}, only {count}")
        return TopicPartition(record.topic, record.partition)

    def add(self, partition: TopicPartition, record: Outgoing, now_ms: int) -> Place:
        """Queue ``record`` behind what its partition already has."""
        lane = self._lanes.get(partition)
        if lane is None:
            lane = self._lanes[partition] = _Lane(partition)
        batch = lane.waiting[-1] if lane.waiting else self._open(lane)
        timestamp_ms = now_ms if record.timestamp_ms is None else record.timestamp_ms
        if not _put(batch, record, timestamp_ms):
            batch = self._open(lane)
            _put(batch, record, timestamp_ms)
        self._count(lane)
        return Place(batch, batch.records - 1)

    async def run(self) -> None:
        """Send what waits, and watch over how long it takes, until cancelled. Runs as a task of the owner."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._pump())
            group.create_task(self._watch())

    def fail(self) -> None:
        """Give up: nothing more is sent, and whoever waits learns that the outcome is unknown."""
        self.failed = True
        for lane in self._lanes.values():
            while lane.waiting:
                self._finish(lane.waiting.popleft(), None)

    async def close(self) -> None:
        """Flush what waits if the session is sound, and disconnect; each step takes ``close_seconds_max`` at most."""
        if not self.failed:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.close_seconds_max):
                    await self._idle.wait()
        sound = not self.failed and self._pending == 0
        self.fail()
        try:
            async with asyncio.timeout(self._settings.close_seconds_max):
                await (self._kafka.stop() if sound else self._give_up())
        except (KafkaError, TimeoutError, OSError) as error:
            log.warning("producer_close_incomplete", error=type(error).__name__)

    async def _give_up(self) -> None:
        """Disconnect without flushing: aiokafka's ``stop`` would, and idempotent batches never expire."""
        sender: asyncio.Task[None] = self._kafka._sender.sender_task  # noqa: SLF001 - no public way to give up
        # Cancelled once it lets the requests on their way end, cancelled twice it drops them.
        for _ in range(2):
            sender.cancel()
            await asyncio.wait((sender,), timeout=self._settings.close_seconds_max / 4)
        self._give_up_waiting()
        self._kafka._closed = True  # noqa: SLF001 - else it warns that it was not stopped
        await self._kafka.client.close()

    async def _pump(self) -> None:
        while True:
            await self._work.wait()
            if self._linger_s:
                await asyncio.sleep(self._linger_s)
            self._work.clear()
            while self._ready:
                await self._send(self._ready.popleft())

    async def _watch(self) -> None:
        # One clock for all: a timeout for each append would cost as much as the append.
        limit_s = self._settings.append_seconds_max
        while True:
            await asyncio.sleep(limit_s / _WATCHES_PER_LIMIT)
            latest_s = asyncio.get_running_loop().time() - limit_s
            if any(lane.oldest_s < latest_s for lane in self._lanes.values()):
                log.warning("append_took_too_long", seconds_max=limit_s)
                self._give_up_waiting()

    def _give_up_waiting(self) -> None:
        self.fail()
        for lane in self._lanes.values():
            if lane.sending is not None:
                self._finish(lane.sending, None)

    def _open(self, lane: _Lane) -> Batch:
        batch = Batch(self._kafka.create_batch(), asyncio.get_running_loop().time())
        lane.waiting.append(batch)
        if lane.sending is None and len(lane.waiting) == 1:
            self._announce(lane)
        return batch

    def _announce(self, lane: _Lane) -> None:
        self._ready.append(lane)
        self._work.set()

    def _count(self, lane: _Lane) -> None:
        self._pending += 1
        self._idle.clear()
        lane.records_total += 1
        if lane.records_total >= self._settings.records_per_producer_max:
            self.exhausted = True

    async def _send(self, lane: _Lane) -> None:
        if not lane.waiting:
            return
        batch = lane.waiting.popleft()
        lane.sending = batch
        # Closed, so that aiokafka neither lingers nor lets anything else in.
        batch.builder.close()
        topic, number = lane.partition
        try:
            sent = await self._kafka.send_batch(batch.builder, topic, partition=number)
        except KafkaError as error:
            self._lost(lane, batch, error)
        else:
            sent.add_done_callback(partial(self._sent, lane, batch))

    def _sent(self, lane: _Lane, batch: Batch, sent: "asyncio.Future[Any]") -> None:
        lane.sending = None
        error = asyncio.CancelledError() if sent.cancelled() else sent.exception()
        if error is not None:
            self._lost(lane, batch, error)
            return
        self._finish(batch, sent.result().offset)
        if lane.waiting:
            self._announce(lane)

    def _lost(self, lane: _Lane, batch: Batch, error: BaseException) -> None:
        topic, number = lane.partition
        log.warning(
            "batch_outcome_unknown",
            topic=topic,
            partition=number,
            records=batch.records,
            error=type(error).__name__,
        )
        self._finish(batch, None)
        self.fail()

    def _finish(self, batch: Batch, base_offset: int | None) -> None:
        if batch.finished:
            return
        batch.finish(base_offset)
        self._pending -= batch.records
        if self._pending == 0:
            self._idle.set()


def _put(batch: Batch, record: Outgoing, timestamp_ms: int) -> bool:
    added = batch.builder.append(
        timestamp=timestamp_ms, key=record.key, value=record.value, headers=list(record.headers)
    )
    if added is None:
        return False
    batch.records += 1
    return True
