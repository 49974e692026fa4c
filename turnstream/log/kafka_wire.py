"""Single requests to brokers: fetch without waiting, and list offsets.

aiokafka's consumer cannot read a range quickly: it has one fetch in flight per broker, keeps it open while there is
nothing new, and fetches ahead. One request, one answer, no state (the broker sees no fetch session) can.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Final

from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    LeaderNotAvailableError,
    NodeNotReadyError,
    NoError,
    OffsetOutOfRangeError,
    StaleMetadata,
    for_code,
)
from aiokafka.protocol.offset import OffsetRequest

from schemas.ports import TopicPartition
from turnstream.log.ranges import Span
from turnstream.log.settings import KafkaSettings
from turnstream.log.wire.batches import Fetched, decode_records
from turnstream.log.wire.cluster import RETRY_S, Cluster
from turnstream.log.wire.connection import Api
from turnstream.log.wire.fetch import FetchedBatches, FetchLimits, fetch_request, read_fetch_answer

# Special timestamps of ListOffsets.
LATEST: Final = -1
_EARLIEST: Final = -2
_READ_UNCOMMITTED: Final = 0
_NO_WAIT_MS: Final = 0
_BYTES_MIN: Final = 1


class KafkaWire:
    """Requests to the leaders of partitions. Raises KafkaError; deadlines are the caller's."""

    def __init__(self, settings: KafkaSettings) -> None:
        self.cluster: Final = Cluster(settings, settings.read_seconds_max)
        self._limits = FetchLimits(
            _NO_WAIT_MS, _BYTES_MIN, settings.fetch_bytes_max, settings.fetch_partition_bytes_max
        )

    async def connect(self) -> None:
        """Learn the cluster's brokers."""
        await self.cluster.connect()

    async def close(self) -> None:
        """Disconnect."""
        await self.cluster.close()

    def by_leader(self, partitions: Iterable[TopicPartition]) -> Mapping[int, list[TopicPartition]]:
        """``partitions`` by the broker that leads them; those whose leader is not known yet are left out."""
        leaders: dict[int, list[TopicPartition]] = defaultdict(list)
        for partition in partitions:
            leader = self.cluster.leader(partition)
            if leader is not None:
                leaders[leader].append(partition)
        return leaders

    async def fetch(self, leader: int, wanted: Mapping[TopicPartition, Span]) -> Mapping[TopicPartition, Fetched]:
        """What the log holds now from the start of each span on; a partition whose leader moved is left out."""
        connection = self.cluster.connection(leader)
        if connection is None:
            raise NodeNotReadyError
        answer: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        body = fetch_request({partition: span.start for partition, span in wanted.items()}, self._limits)
        connection.send(Api.FETCH, body, lambda body: None if answer.done() else answer.set_result(body))
        answered = await answer
        if answered is None:
            self.cluster.refresh()
            raise KafkaConnectionError
        found: dict[TopicPartition, Fetched] = {}
        for result in read_fetch_answer(answered):
            fetched = self._fetched(wanted[result.partition], result)
            if fetched is not None:
                found[result.partition] = fetched
        return found

    async def earliest(self, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]:
        """The oldest offset that retention left, of each; see ``list_offsets``."""
        return await self.list_offsets(dict.fromkeys(partitions, _EARLIEST))

    async def list_offsets(self, timestamps: Mapping[TopicPartition, int]) -> Mapping[TopicPartition, int]:
        """Per partition the first offset at or after the timestamp (Unix ms, or LATEST); -1 if none.

        Asks again until the leaders are known and answer. Raises KafkaError when one refuses for good.
        """
        while True:
            try:
                return await self._list_all_offsets(timestamps)
            except KafkaError as error:
                if not error.retriable:
                    raise
            await asyncio.sleep(RETRY_S)

    async def _list_all_offsets(self, timestamps: Mapping[TopicPartition, int]) -> Mapping[TopicPartition, int]:
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
        topics: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for (topic, number), timestamp in timestamps.items():
            topics[topic].append((number, timestamp))
        response = await self.cluster.send(leader, OffsetRequest(-1, _READ_UNCOMMITTED, list(topics.items())))
        found: dict[TopicPartition, int] = {}
        for topic, answers in response.topics:
            for number, code, _timestamp, offset in answers:
                error = for_code(code)
                if error is not NoError:
                    self.cluster.refresh()
                    raise error(topic)
                found[TopicPartition(topic, number)] = offset
        return found

    def _fetched(self, span: Span, result: FetchedBatches) -> Fetched | None:
        error: Any = for_code(result.error_code)
        if error is NoError:
            return decode_records(span, result.batches)
        if error is OffsetOutOfRangeError:
            return Fetched((), span.start, out_of_range=True)
        if error.invalid_metadata or error is LeaderNotAvailableError:
            self.cluster.refresh()
            return None
        raise error(result.partition.topic)
