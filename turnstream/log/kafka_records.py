"""aiokafka's records as ours."""

from collections.abc import Iterable, Sequence
from typing import Any

from schemas.ports import Record, TopicPartition


def to_records(fetched: Iterable[Sequence[Any]]) -> list[Record]:
    """Our records of aiokafka's consumer records, partition after partition, in their order."""
    return [
        record
        for found in fetched
        if found
        for record in records_of(TopicPartition(found[0].topic, found[0].partition), found)
    ]


def records_of(partition: TopicPartition, entries: Iterable[Any]) -> list[Record]:
    """Our records of aiokafka's from ``partition``, in their order.

    A null value or header (a tombstone, a foreign producer) reads as empty bytes.
    """
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
