"""aiokafka's records as ours."""

from collections.abc import Iterable, Sequence
from typing import Any

from schemas.ports import Record, TopicPartition


def to_records(fetched: Iterable[Sequence[Any]]) -> list[Record]:
    """Our records of aiokafka's consumer records, partition after partition, in their order.

    A null value or header (a tombstone, a foreign producer) reads as empty bytes.
    """
    return [
        Record(
            found.topic,
            found.partition,
            found.offset,
            found.key,
            found.value or b"",
            tuple([(name, value or b"") for name, value in found.headers]),
            found.timestamp,
        )
        for partition in fetched
        for found in partition
    ]


def records_of(partition: TopicPartition, entries: Iterable[Any]) -> list[Record]:
    """The same of the records of one fetch from ``partition``, which do not say where they lay."""
    topic, number = partition
    return [
        Record(
            topic,
            number,
            entry.offset,
            entry.key,
            entry.value or b"",
            tuple([(name, value or b"") for name, value in entry.headers]),
            entry.timestamp,
        )
        for entry in entries
    ]
