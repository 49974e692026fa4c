"""Single requests to brokers: fetch without waiting, and list offsets.

aiokafka's consumer cannot read a range quickly: it has one fetch in flight per broker, keeps it open while there is
nothing new, and fetches ahead. Its client can: one request, one answer, no state (the broker sees no fetch session).
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    KafkaError,
    LeaderNotAvailableError,
    NoError,
    OffsetOutOfRangeError,
    StaleMetadata,
    for_code,
)
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.record.memory_records import MemoryRecords

from schemas.ports import TopicPartition
from turnstream.log.ranges import Entry, Span
from turnstream.log.settings import KafkaSettings

# Special timestamps of ListOffsets.
LATEST: Final = -1
EARLIEST: Final = -2
_READ_UNCOMMITTED: Final = 0
_NO_WAIT_MS: Final = 0
_MIN_BYTES: Final = 1
# At most so often is the cluster asked who leads what.
_REFRESH_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Fetched:
    """What one fetch brought of a partition: aiokafka's records, and from where to read on."""

    entries: tuple[Entry, ...]
    next_offset: int
    out_of_range: bool = False


class KafkaWire:
    """Requests to the leaders of partitions. Raises KafkaError; deadlines are the caller's."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._client: Any = AIOKafkaClient(
            bootstrap_servers=settings.bootstrap_servers,
            client_id=settings.client_id,
            request_timeout_ms=int(settings.read_seconds_max * 1000),
        )
        self._refresh_after = 0.0

    async def connect(self) -> None:
        """Learn the cluster's brokers."""
        await self._client.bootstrap()

    async def close(self) -> None:
        """Disconnect."""
        await self._client.close()

    def by_leader(self, partitions: Iterable[TopicPartition]) -> Mapping[int, list[TopicPartition]]:
        """``partitions`` by the broker that leads them; those whose leader is not known yet are left out."""
        leaders: dict[int, list[TopicPartition]] = defaultdict(list)
        for partition in partitions:
            leader = self._client.cluster.leader_for_partition(partition)
            if leader is None or leader < 0:
                self._client.add_topic(partition.topic)
                self._refresh()
            else:
                leaders[leader].append(partition)
        return leaders

    async def fetch(self, leader: int, wanted: Mapping[TopicPartition, Span]) -> Mapping[TopicPartition, Fetched]:
        """What the log holds now from the start of each span on; a partition whose leader moved is left out."""
        limit = self._settings.fetch_partition_bytes_max
        request = FetchRequest(
            _NO_WAIT_MS,
            _MIN_BYTES,
            self._settings.fetch_bytes_max,
            _READ_UNCOMMITTED,
            _by_topic({partition: (span.start, limit) for partition, span in wanted.items()}),
        )
        response = await self._send(leader, request)
        found: dict[TopicPartition, Fetched] = {}
        for topic, answers in response.topics:
            for number, code, _highwater, *rest in answers:
                partition = TopicPartition(topic, number)
                fetched = self._fetched(partition, wanted[partition], for_code(code), rest[-1])
                if fetched is not None:
                    found[partition] = fetched
        return found

    async def list_offsets(self, timestamps: Mapping[TopicPartition, int]) -> Mapping[TopicPartition, int]:
        """Per partition the first offset at or after the timestamp (Unix ms, LATEST or EARLIEST); -1 if none.

        Raises StaleMetadata while the leader of a partition is unknown.
        """
        leaders = self.by_leader(timestamps)
        if sum(map(len, leaders.values())) < len(timestamps):
            raise StaleMetadata("a leader is unknown")
        answers = await asyncio.gather(
            *[
                self._list_offsets(leader, {partition: timestamps[partition] for partition in partitions})
                for leader, partitions in leaders.items()
            ]
        )
        return {partition: offset for answer in answers for partition, offset in answer.items()}

    async def _list_offsets(
        self, leader: int, timestamps: Mapping[TopicPartition, int]
    ) -> Mapping[TopicPartition, int]:
        topics = _by_topic({partition: (timestamp,) for partition, timestamp in timestamps.items()})
        response = await self._send(leader, OffsetRequest(-1, _READ_UNCOMMITTED, topics))
        found: dict[TopicPartition, int] = {}
        for topic, answers in response.topics:
            for number, code, _timestamp, offset in answers:
                error = for_code(code)
                if error is not NoError:
                    self._refresh()
                    raise error(topic)
                found[TopicPartition(topic, number)] = offset
        return found

    async def _send(self, leader: int, request: Any) -> Any:
        try:
            return await self._client.send(leader, request)
        except KafkaError:
            self._refresh()
            raise

    def _fetched(self, partition: TopicPartition, span: Span, error: Any, data: bytes) -> Fetched | None:
        if error is NoError:
            return decode_records(span, data)
        if error is OffsetOutOfRangeError:
            return Fetched((), span.start, out_of_range=True)
        if error.invalid_metadata or error is LeaderNotAvailableError:
            self._refresh()
            return None
        raise error(partition.topic)

    def _refresh(self) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._refresh_after:
            self._refresh_after = now + _REFRESH_S
            self._client.force_metadata_update()


def decode_records(span: Span, data: bytes) -> Fetched:
    """The records of a fetch response from the start of ``span`` on, without control batches.

    Reading ends with the batch that reaches the end of ``span``: the broker sends more than is wanted.
    ``next_offset`` lies behind the last batch, also where compaction left none of its records.
    """
    entries: list[Entry] = []
    position = span.start
    batches = MemoryRecords(data)
    while position < span.stop and batches.has_next():
        batch = batches.next_batch()
        if not batch.is_control_batch:
            # A batch is fetched whole, though its first records may lie before what was asked for.
            entries += [entry for entry in batch if entry.offset >= span.start]
        position = max(position, batch.next_offset)
    return Fetched(tuple(entries), position)


def _by_topic(values: Mapping[TopicPartition, tuple[int, ...]]) -> list[tuple[str, list[tuple[int, ...]]]]:
    topics: dict[str, list[tuple[int, ...]]] = defaultdict(list)
    for partition, value in values.items():
        topics[partition.topic].append((partition.partition, *value))
    return list(topics.items())
