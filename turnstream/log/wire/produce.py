"""Produce requests and their answers, version 7 (https://kafka.apache.org/protocol#The_Messages_Produce)."""

import struct
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from schemas.ports import TopicPartition
from turnstream.log.wire.layout import Answer, by_topic

_ACKS_ALL: Final = -1
_NO_TRANSACTION: Final = -1
_HEAD: Final = struct.Struct(">hhi")
_PARTITION: Final = struct.Struct(">ii")
# partition, error code, base offset, log append time, log start offset
_RESULT: Final = struct.Struct(">ihqqq")


class Appended(NamedTuple):
    """What became of one partition's batch; ``error_code`` 0 is success."""

    partition: TopicPartition
    error_code: int
    base_offset: int


def produce_request(batches: Mapping[TopicPartition, bytes], timeout_ms: int) -> bytes:
    """Append a batch to each partition; answered when all in-sync replicas have them, or after ``timeout_ms``."""
    entries = ((partition, _PARTITION.pack(partition[1], len(batch)) + batch) for partition, batch in batches.items())
    return _HEAD.pack(_NO_TRANSACTION, _ACKS_ALL, timeout_ms) + by_topic(entries)


def read_produce_answer(body: bytes) -> Sequence[Appended]:
    """One result for each partition of the request."""
    return list(Answer(body).partitions(_result))


def _result(answer: Answer, topic: str) -> Appended:
    number, error_code, base_offset, _appended_ms, _log_start = answer.take(_RESULT)
    return Appended(TopicPartition(topic, number), error_code, base_offset)
