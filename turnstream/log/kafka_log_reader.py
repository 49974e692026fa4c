"""The port ``LogReader`` on Kafka."""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, Self

import structlog
from aiokafka.errors import KafkaError

from schemas.errors import Retryable
from schemas.ports import Record, TopicPartition
from turnstream.log.background import Background
from turnstream.log.kafka_failures import kafka_failures, startup_failures
from turnstream.log.kafka_records import records_of
from turnstream.log.kafka_wire import LATEST, KafkaWire
from turnstream.log.known_records import KnownRecords
from turnstream.log.overdue import watch_overdue
from turnstream.log.ranges import Entry, PartitionReads, RangeRead, Span
from turnstream.log.settings import KafkaSettings
from turnstream.log.wire.batches import Fetched

log = structlog.get_logger()

# Between two looks at a log that has nothing new, or after a failed request.
_RETRY_S: Final = 0.01
_NOT_FOUND: Final = -1


class _Wait(NamedTuple):
    """Who waits for a range, since when on the loop's clock; None tells that it took too long."""

    answer: "asyncio.Future[Sequence[Entry] | None]"
    since_s: float


class KafkaLogReader:
    """Reads ranges and offsets without a group. Callers that want about the same range share its fetch.

    Every partition that is asked for advances with each round of one request per broker; the others cost nothing,
    and no request waits at the broker.
    Use as ``async with KafkaLogReader(settings) as reader``.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._wire = KafkaWire(settings)
        self._background = Background()
        self._reads: dict[TopicPartition, PartitionReads] = {}
        self._waits: dict[RangeRead, _Wait] = {}
        self._known: dict[TopicPartition, KnownRecords] = {}
        self._asked = asyncio.Event()

    async def __aenter__(self) -> Self:
        """Connect. Raises Retryable when the broker cannot be reached within ``start_seconds_max``."""
        connected = False
        try:
            with startup_failures(f"connect to the broker at {self._settings.bootstrap_servers}"):
                async with asyncio.timeout(self._settings.start_seconds_max):
                    await self._wire.connect()
            connected = True
        finally:
            if not connected:
                await self._wire.close()
        await self._background.open()
        self._background.start(self._read())
        self._background.start(watch_overdue(self._settings.read_seconds_max, self._give_up))
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Stop reading and disconnect."""
        try:
            await self._background.close()
        finally:
            self._give_up(asyncio.get_running_loop().time())
            await self._wire.close()

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """The offset that the next record of each partition will get. Raises Retryable after ``read_seconds_max``."""
        return await self._list_offsets(dict.fromkeys(partitions, LATEST))

    async def offsets_at(self, partitions: Sequence[TopicPartition], timestamp_ms: int) -> Mapping[TopicPartition, int]:
        """Per partition the first offset not older than ``timestamp_ms`` (Unix ms), or its end. Raises Retryable."""
        found = dict(await self._list_offsets(dict.fromkeys(partitions, timestamp_ms)))
        nothing_newer = [partition for partition, offset in found.items() if offset == _NOT_FOUND]
        if nothing_newer:
            # The end first, then once more: what was appended since must not be skipped.
            ends = await self.end_offsets(nothing_newer)
            for partition, offset in (await self._list_offsets(dict.fromkeys(nothing_newer, timestamp_ms))).items():
                found[partition] = ends[partition] if offset == _NOT_FOUND else offset
        return found

    async def read_range(self, partition: TopicPartition, start: int, stop: int) -> Sequence[Record]:
        """The records with ``start <= offset < stop`` that retention and compaction left.

        Waits for records that are not on the log yet. Raises Retryable when the range is not complete after
        ``read_seconds_max``, or when ``ranges_pending_max`` callers wait already.
        """
        return records_of(partition, await self._read_entries(partition, start, stop))

    async def offsets_of(self, partition: TopicPartition, key: bytes, start: int, stop: int) -> Sequence[int]:
        """The offsets of the records with ``key`` in that range; what is known of recent records is not read again.

        Waits, and raises Retryable, as ``read_range`` does.
        """
        known = self._known.get(partition)
        if known is None or start > known.stop + self._settings.range_gap_records_max:
            settings = self._settings
            known = KnownRecords(start, settings.offsets_known_max, settings.recent_bytes_max)
            self._known[partition] = known
        if known.start <= start and known.stop < stop:
            begin = known.stop
            known.extend(begin, stop, await self._read_entries(partition, begin, stop))
        if known.start <= start:
            return known.of(key, start, stop)
        return [entry.offset for entry in await self._read_entries(partition, start, stop) if entry.key == key]

    async def read_key(self, partition: TopicPartition, key: bytes, start: int, stop: int) -> Sequence[Record]:
        """The records with ``key`` in that range; those that were read lately are not read again.

        Waits, and raises Retryable, as ``read_range`` does.
        """
        offsets = await self.offsets_of(partition, key, start, stop)
        if not offsets:
            return ()
        entries = self._known[partition].at(offsets)
        if entries is None:
            read = await self._read_entries(partition, offsets[0], offsets[-1] + 1)
            entries = [entry for entry in read if entry.key == key]
        return records_of(partition, entries)

    async def _read_entries(self, partition: TopicPartition, start: int, stop: int) -> Sequence[Entry]:
        if start >= stop:
            return ()
        if len(self._waits) >= self._settings.ranges_pending_max:
            raise Retryable("too many reads wait for their records")
        read = RangeRead(start, stop)
        loop = asyncio.get_running_loop()
        wait = self._waits[read] = _Wait(loop.create_future(), loop.time())
        self._reads.setdefault(partition, PartitionReads(self._settings.range_gap_records_max)).add(read)
        self._asked.set()
        try:
            entries = await wait.answer
        finally:
            del self._waits[read]
            self._forget(partition, read)
        if entries is None:
            raise Retryable(f"read {partition.topic}/{partition.partition}: it took too long")
        return entries

    def _give_up(self, since_s: float) -> None:
        """Tell whoever waits since then, or longer."""
        for wait in self._waits.values():
            if wait.since_s <= since_s and not wait.answer.done():
                wait.answer.set_result(None)

    async def _list_offsets(self, timestamps: Mapping[TopicPartition, int]) -> Mapping[TopicPartition, int]:
        with kafka_failures("list offsets"):
            async with asyncio.timeout(self._settings.read_seconds_max):
                return await self._wire.list_offsets(timestamps)

    async def _read(self) -> None:
        while True:
            await self._asked.wait()
            while self._reads:
                self._asked.clear()
                if not await self._round():
                    await self._new_read_or_pause()
            self._asked.clear()

    async def _round(self) -> bool:
        """One request to every broker concerned. Returns whether any read got further."""
        leaders = self._wire.by_leader(self._reads)
        targets = {
            leader: {partition: self._reads[partition].target() for partition in partitions}
            for leader, partitions in leaders.items()
        }
        return any(await asyncio.gather(*[self._fetch(leader, wanted) for leader, wanted in targets.items()]))

    async def _fetch(self, leader: int, wanted: Mapping[TopicPartition, Span]) -> bool:
        try:
            found = dict(await self._wire.fetch(leader, wanted))
            expired = [partition for partition, got in found.items() if got.out_of_range]
            if expired:
                found.update(await self._skip_expired(expired, wanted))
        except KafkaError as error:
            # The callers' deadlines decide how long this may go on; other brokers' partitions are not concerned.
            log.debug("fetch_failed", leader=leader, error=type(error).__name__)
            return False
        progress = [self._give(partition, wanted[partition].start, got) for partition, got in found.items()]
        return any(progress)

    async def _skip_expired(
        self, partitions: Sequence[TopicPartition], wanted: Mapping[TopicPartition, Span]
    ) -> Mapping[TopicPartition, Fetched]:
        """Retention took the beginning: go on with the oldest record that is left."""
        earliest = await self._wire.earliest(partitions)
        return {partition: Fetched((), max(offset, wanted[partition].start)) for partition, offset in earliest.items()}

    def _give(self, partition: TopicPartition, start: int, got: Fetched) -> bool:
        reads = self._reads.get(partition)
        if reads is None:
            return False
        for read in reads.take(start, got.entries, got.next_offset):
            wait = self._waits.get(read)
            if wait is not None and not wait.answer.done():
                wait.answer.set_result(read.entries)
        if not reads:
            del self._reads[partition]
        return got.next_offset > start

    def _forget(self, partition: TopicPartition, read: RangeRead) -> None:
        reads = self._reads.get(partition)
        if reads is not None:
            reads.discard(read)
            if not reads:
                del self._reads[partition]

    async def _new_read_or_pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_RETRY_S):
                await self._asked.wait()
