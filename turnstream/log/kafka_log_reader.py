"""The port ``LogReader`` on Kafka."""

import asyncio
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Self

import structlog
from aiokafka.errors import KafkaError

from schemas.errors import Retryable
from schemas.ports import Record, TopicPartition
from turnstream.log.background import Background
from turnstream.log.kafka_failures import kafka_failures, startup_failures
from turnstream.log.kafka_wire import EARLIEST, LATEST, Fetched, KafkaWire
from turnstream.log.ranges import Span, plan_sweep
from turnstream.log.settings import KafkaSettings

log = structlog.get_logger()

# Between two looks at a log that has nothing new, or after a failed request.
_RETRY_S: Final = 0.01
_NOT_FOUND: Final = -1


@dataclass(slots=True, eq=False)
class _Request:
    """A caller that waits for a range."""

    span: Span
    answer: "asyncio.Future[Sequence[Record]]"


@dataclass(slots=True, eq=False)
class _Pass:
    """A sweep over a partition under way."""

    position: int
    stop: int
    requests: list[_Request]
    records: list[Record] = field(default_factory=list)

    @property
    def wanted(self) -> bool:
        return any(not request.answer.done() for request in self.requests)

    def deliver(self) -> None:
        """Hand every caller its slice."""
        offsets = [record.offset for record in self.records]
        for request in self.requests:
            if not request.answer.done():
                low, high = (bisect_left(offsets, edge) for edge in (request.span.start, request.span.stop))
                request.answer.set_result(self.records[low:high])


class KafkaLogReader:
    """Reads ranges and offsets without a group. Callers that want the same partition share one pass over it.

    Every pass of every partition advances with each round of one request per broker; partitions that nobody asks
    for cost nothing, and no request waits at the broker.
    Use as ``async with KafkaLogReader(settings) as reader``.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._wire = KafkaWire(settings)
        self._background = Background()
        self._waiting: dict[TopicPartition, list[_Request]] = {}
        self._passes: dict[TopicPartition, _Pass] = {}
        self._pending = 0
        self._asked = asyncio.Event()

    async def __aenter__(self) -> Self:
        """Connect. Raises Retryable when the broker cannot be reached within ``start_seconds_max``."""
        connected = False
        try:
            with startup_failures("start the reader"):
                async with asyncio.timeout(self._settings.start_seconds_max):
                    await self._wire.connect()
            connected = True
        finally:
            if not connected:
                await self._wire.close()
        await self._background.open()
        self._background.start(self._read())
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Stop reading and disconnect."""
        try:
            await self._background.close()
        finally:
            await self._wire.close()

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """The offset that the next record of each partition will get. Raises Retryable after ``read_seconds_max``."""
        return await self._list_offsets(dict.fromkeys(partitions, LATEST))

    async def offsets_at(self, partitions: Sequence[TopicPartition], timestamp_ms: int) -> Mapping[TopicPartition, int]:
        """Per partition the first offset not older than ``timestamp_ms`` (Unix ms), or its end. Raises Retryable."""
        found = dict(await self._list_offsets(dict.fromkeys(partitions, timestamp_ms)))
        nothing_newer = [partition for partition, offset in found.items() if offset == _NOT_FOUND]
        if nothing_newer:
            found.update(await self.end_offsets(nothing_newer))
        return found

    async def read_range(self, partition: TopicPartition, start: int, stop: int) -> Sequence[Record]:
        """The records with ``start <= offset < stop`` that retention and compaction left.

        Waits for records that are not on the log yet. Raises Retryable when the range is not complete after
        ``read_seconds_max``, or when ``ranges_pending_max`` callers wait already.
        """
        if start >= stop:
            return ()
        if self._pending >= self._settings.ranges_pending_max:
            raise Retryable("too many reads wait for their records")
        request = _Request(Span(start, stop), asyncio.get_running_loop().create_future())
        self._waiting.setdefault(partition, []).append(request)
        self._pending += 1
        self._asked.set()
        try:
            with kafka_failures(f"read {partition.topic}/{partition.partition}"):
                async with asyncio.timeout(self._settings.read_seconds_max):
                    return await request.answer
        finally:
            self._pending -= 1

    async def _list_offsets(self, timestamps: Mapping[TopicPartition, int]) -> Mapping[TopicPartition, int]:
        with kafka_failures("list offsets"):
            async with asyncio.timeout(self._settings.read_seconds_max):
                while True:
                    try:
                        return await self._wire.list_offsets(timestamps)
                    except KafkaError as error:
                        if not error.retriable:
                            raise
                    await asyncio.sleep(_RETRY_S)

    async def _read(self) -> None:
        while True:
            await self._asked.wait()
            self._begin_passes()
            if not self._passes:
                self._asked.clear()
            elif not await self._round():
                await asyncio.sleep(_RETRY_S)

    def _begin_passes(self) -> None:
        for partition in [partition for partition in self._waiting if partition not in self._passes]:
            requests = [request for request in self._waiting.pop(partition) if not request.answer.done()]
            if requests:
                self._begin_pass(partition, requests)

    def _begin_pass(self, partition: TopicPartition, requests: list[_Request]) -> None:
        sweep = plan_sweep([request.span for request in requests], self._settings.range_gap_records_max)
        members = set(sweep.members)
        chosen = [request for index, request in enumerate(requests) if index in members]
        rest = [request for index, request in enumerate(requests) if index not in members]
        self._passes[partition] = _Pass(sweep.span.start, sweep.span.stop, chosen)
        if rest:
            self._waiting[partition] = rest

    async def _round(self) -> bool:
        """One request to every broker concerned. Returns whether any pass got further."""
        leaders = self._wire.by_leader(self._passes)
        answers = await asyncio.gather(*[self._fetch(leader, wanted) for leader, wanted in leaders.items()])
        progress = [self._advance(partition, got) for answer in answers for partition, got in answer.items()]
        for partition in [partition for partition, under_way in self._passes.items() if not under_way.wanted]:
            del self._passes[partition]
        return any(progress)

    async def _fetch(self, leader: int, wanted: Sequence[TopicPartition]) -> Mapping[TopicPartition, Fetched]:
        try:
            found = dict(await self._wire.fetch(leader, {one: self._passes[one].position for one in wanted}))
            expired = [partition for partition, got in found.items() if got.out_of_range]
            if expired:
                found.update(await self._skip_expired(expired))
        except KafkaError as error:
            # The callers' deadlines decide how long this may go on; other brokers' partitions are not concerned.
            log.debug("fetch_failed", leader=leader, error=type(error).__name__)
            return {}
        return found

    async def _skip_expired(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, Fetched]:
        """Retention took the beginning: go on with the oldest record that is left."""
        earliest = await self._wire.list_offsets(dict.fromkeys(partitions, EARLIEST))
        return {
            partition: Fetched((), max(offset, self._passes[partition].position))
            for partition, offset in earliest.items()
        }

    def _advance(self, partition: TopicPartition, got: Fetched) -> bool:
        under_way = self._passes[partition]
        moved = got.next_offset > under_way.position
        under_way.records.extend(got.records)
        under_way.position = got.next_offset
        if under_way.position >= under_way.stop:
            under_way.deliver()
        return moved
