"""aiokafka's records as ours."""

from collections.abc import Iterable
from typing import Any

from schemas.ports import Record, TopicPartition


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
