"""The log as a shadow run sees it: its own topics under the names of the live ones.

The stages write and read what they always do. What they write is marked (``schemas.headers.REPLAY``) and lands on the
run's topics; what they read back lies there, and bears no mark: to the stages of its own run it is no replay.
"""

from collections.abc import Mapping, Sequence

from schemas import headers
from schemas.headers import Headers
from schemas.ports import LogReader, OnLanded, Outgoing, PostingProducer, Record, TopicPartition
from schemas.shadow import PARTITIONS, shadow_topic


class IsolatedProducer:
    """A ``PostingProducer`` that cannot reach a live topic. Raises ValueError for one that a run does not write."""

    def __init__(self, producer: PostingProducer, run_id: str) -> None:
        self._producer = producer
        self._run_id = run_id

    async def append(self, records: Sequence[Outgoing]) -> Sequence[int]:
        """As ``Producer.append``; the offsets are those on the run's topics."""
        return await self._producer.append([self._isolated(record) for record in records])

    def post(self, records: Sequence[Outgoing], on_landed: OnLanded) -> None:
        """As ``PostingProducer.post``, likewise."""
        self._producer.post([self._isolated(record) for record in records], on_landed)

    def _isolated(self, record: Outgoing) -> Outgoing:
        marked = (*_unmarked(record.headers), (headers.REPLAY, self._run_id.encode()))
        return record._replace(
            topic=shadow_topic(self._run_id, record.topic),
            headers=marked,
            partition=None if record.partition is None else record.partition % PARTITIONS,
        )


class IsolatedReader:
    """A ``LogReader`` over the run's topics, in the terms of the live ones."""

    def __init__(self, reader: LogReader, run_id: str) -> None:
        self._reader = reader
        self._run_id = run_id

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """As ``LogReader.end_offsets``."""
        where = self._places(partitions)
        found = await self._reader.end_offsets(_distinct(where))
        return {partition: found[place] for partition, place in where.items()}

    async def offsets_at(self, partitions: Sequence[TopicPartition], timestamp_ms: int) -> Mapping[TopicPartition, int]:
        """As ``LogReader.offsets_at``."""
        where = self._places(partitions)
        found = await self._reader.offsets_at(_distinct(where), timestamp_ms)
        return {partition: found[place] for partition, place in where.items()}

    async def read_range(self, partition: TopicPartition, start: int, stop: int) -> Sequence[Record]:
        """As ``LogReader.read_range``."""
        return _at_home(partition, await self._reader.read_range(self._place(partition), start, stop))

    async def offsets_of(self, partition: TopicPartition, key: bytes, start: int, stop: int) -> Sequence[int]:
        """As ``LogReader.offsets_of``."""
        return await self._reader.offsets_of(self._place(partition), key, start, stop)

    async def read_key(self, partition: TopicPartition, key: bytes, start: int, stop: int) -> Sequence[Record]:
        """As ``LogReader.read_key``."""
        return _at_home(partition, await self._reader.read_key(self._place(partition), key, start, stop))

    def _places(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, TopicPartition]:
        return {partition: self._place(partition) for partition in partitions}

    def _place(self, partition: TopicPartition) -> TopicPartition:
        return TopicPartition(shadow_topic(self._run_id, partition.topic), partition.partition % PARTITIONS)


def _at_home(partition: TopicPartition, records: Sequence[Record]) -> list[Record]:
    """``records`` of the shadow as they would lie in the live ``partition``."""
    return [
        record._replace(topic=partition.topic, partition=partition.partition, headers=tuple(_unmarked(record.headers)))
        for record in records
    ]


def _unmarked(written: Headers) -> Headers:
    return tuple((name, value) for name, value in written if name != headers.REPLAY)


def _distinct(where: Mapping[TopicPartition, TopicPartition]) -> Sequence[TopicPartition]:
    # Several live partitions lie in one of a run.
    return list(dict.fromkeys(where.values()))
