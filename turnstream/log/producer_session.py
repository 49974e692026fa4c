"""One producer from its start to its first failure, and the records on their way through it.

Group commit: records wait per partition while that partition's batch is on its way, then leave together. So one
append of many records and many appends of one record cost about the same, without a task or a future per record.
"""

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from itertools import chain

import structlog
from aiokafka.errors import KafkaError

from schemas.errors import Malformed
from schemas.ports import OnLanded, Outgoing, TopicPartition
from turnstream.log.batch_sender import BatchSender
from turnstream.log.lanes import Batch, Landing, Lane, Place
from turnstream.log.overdue import watch_overdue
from turnstream.log.partitioning import partition_of_key
from turnstream.log.settings import KafkaSettings
from turnstream.log.wire.cluster import Cluster

log = structlog.get_logger()


class ProducerSession:
    """One producer id and its batches; the first batch that is given up makes it unusable for good.

    What comes behind a batch whose outcome is unknown would be out of its order, so a session is never repaired, only
    replaced.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._cluster = Cluster(settings, settings.append_seconds_max)
        self._sender = BatchSender(settings, self._cluster, self._outcome)
        self._lanes: dict[str, Sequence[Lane]] = {}
        self._loop = asyncio.get_running_loop()
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
                await self._cluster.connect()
                await self._sender.start()
            started = True
        finally:
            if not started:
                await self._cluster.close()

    def takes(self, records: Sequence[Outgoing]) -> bool:
        """Whether ``records`` may be given to it right away."""
        if not self.usable or self._pending + len(records) > self._settings.records_pending_max:
            return False
        return all(record.topic in self._lanes for record in records)

    async def learn_partitions(self, topic: str) -> None:
        """Find out how many partitions ``topic`` has, once; waits for a topic that nobody knows."""
        if topic not in self._lanes:
            count = await self._cluster.partitions_of(topic)
            # Somebody else may have learnt it meanwhile, and have records in its lanes.
            self._lanes.setdefault(topic, [self._lane(TopicPartition(topic, number)) for number in range(count)])

    def _lane(self, partition: TopicPartition) -> Lane:
        return Lane(partition, self._settings.compression, self._settings.batch_bytes_max)

    def add(self, records: Sequence[Outgoing], now_ms: int, on_landed: OnLanded) -> None:
        """Queue each of ``records`` behind what its partition already has; ``on_landed`` is told of them.

        Raises Malformed, and queues none, when one names a partition that does not exist.
        """
        # All are located before the first is queued: a record without a partition must not leave the others half sent.
        lanes = [self._lane_of(record) for record in records]
        now_s = self._loop.time()
        places = [self._queue(lane, record, now_ms, now_s) for lane, record in zip(lanes, records, strict=True)]
        Landing(places, on_landed)

    def _lane_of(self, record: Outgoing) -> Lane:
        lanes, number = self._lanes[record.topic], record.partition
        if number is None:
            return lanes[partition_of_key(record.key, len(lanes))]
        if not 0 <= number < len(lanes):
            raise Malformed(f"{record.topic} has no partition {number}, only {len(lanes)}")
        return lanes[number]

    def _queue(self, lane: Lane, record: Outgoing, now_ms: int, now_s: float) -> Place:
        begins = lane.idle
        place = lane.add(record, now_ms, now_s)
        self._pending += 1
        if lane.records_total >= self._settings.records_per_producer_max:
            self.exhausted = True
        if begins:
            self._idle.clear()
            self._sender.announce(lane)
        return place

    async def watch(self) -> None:
        """Give up when something takes too long, until cancelled. Runs as a task of the owner."""
        await watch_overdue(self._settings.append_seconds_max, self._give_up)

    def _give_up(self, since_s: float) -> None:
        if any(lane.oldest_s < since_s for lane in self._all_lanes()):
            log.warning("append_took_too_long", seconds_max=self._settings.append_seconds_max)
            self.fail()

    def fail(self) -> None:
        """Give up: nothing more is sent, and whoever waits learns that the outcome is unknown."""
        self.failed = True
        self._sender.stop()
        for lane in self._all_lanes():
            sending, lane.sending = lane.sending, None
            if sending is not None:
                self._finish(sending, None)
            while lane.waiting:
                self._finish(lane.waiting.popleft(), None)

    async def close(self) -> None:
        """Flush what waits if the session is sound, and disconnect; each step takes ``close_seconds_max`` at most."""
        if not self.failed:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.close_seconds_max):
                    await self._idle.wait()
        self.fail()
        try:
            async with asyncio.timeout(self._settings.close_seconds_max):
                await self._cluster.close()
        except (KafkaError, TimeoutError, OSError) as error:
            log.warning("producer_close_incomplete", error=type(error).__name__)

    def _all_lanes(self) -> Iterable[Lane]:
        return chain.from_iterable(self._lanes.values())

    def _outcome(self, lane: Lane, base_offset: int | None, error: type[Exception] | None) -> None:
        batch, lane.sending = lane.sending, None
        if batch is None:
            return
        if base_offset is not None and lane.waiting:
            # Before anybody is told: whoever appends at once then finds it announced.
            self._sender.announce(lane)
        self._finish(batch, base_offset)
        if base_offset is None:
            topic, number = lane.partition
            log.warning(
                "batch_outcome_unknown",
                topic=topic,
                partition=number,
                records=batch.records,
                error=None if error is None else error.__name__,
            )
            self.fail()

    def _finish(self, batch: Batch, base_offset: int | None) -> None:
        batch.finish(base_offset)
        self._pending -= batch.records
        if self._pending == 0:
            self._idle.set()
