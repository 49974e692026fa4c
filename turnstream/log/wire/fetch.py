"""Fetch requests and their answers, version 10, without a session (https://kafka.apache.org/protocol#The_Messages_Fetch)."""

import struct
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from schemas.ports import TopicPartition
from turnstream.log.wire.layout import Answer, by_topic

_CONSUMER: Final = -1
_READ_UNCOMMITTED: Final = 0
_NO_SESSION: Final = (0, -1)
_UNKNOWN_EPOCH: Final = -1
_NOTHING_FORGOTTEN: Final = struct.pack(">i", 0)
# replica, longest wait, least bytes, most bytes, isolation, session and its epoch
_HEAD: Final = struct.Struct(">iiiibii")
# partition, leader epoch, offset, log start offset, most bytes
_PARTITION: Final = struct.Struct(">iiqqi")
# throttle time, error code, session
_ANSWER_HEAD: Final = struct.Struct(">ihi")
# partition, error code, high watermark, last stable offset, log start offset, aborted transactions (null for whoever
# reads uncommitted), size of the batches
_RESULT: Final = struct.Struct(">ihqqqii")


class FetchLimits(NamedTuple):
    """How long a fetch may wait for how much, and how much it may bring."""

    wait_ms_max: int
    bytes_min: int
    bytes_max: int
    partition_bytes_max: int


class FetchedBatches(NamedTuple):
    """What a broker sent of a partition: whole record batches, the first of which may begin before what was asked."""

    partition: TopicPartition
    error_code: int
    high_watermark: int
    batches: bytes


def fetch_request(offsets: Mapping[TopicPartition, int], limits: FetchLimits) -> bytes:
    """What lies from an offset on, of each partition; answered when there is enough, or when the wait is over."""
    wait_ms, least, most, partition_most = limits
    head = _HEAD.pack(_CONSUMER, wait_ms, least, most, _READ_UNCOMMITTED, *_NO_SESSION)
    entries = (
        (partition, _PARTITION.pack(partition[1], _UNKNOWN_EPOCH, offset, _CONSUMER, partition_most))
        for partition, offset in offsets.items()
    )
    return head + by_topic(entries) + _NOTHING_FORGOTTEN


def read_fetch_answer(body: bytes) -> Sequence[FetchedBatches]:
    """What came of each partition."""
    answer = Answer(body)
    _throttle_ms, _error_code, _session = answer.take(_ANSWER_HEAD)
    return list(answer.partitions(_fetched))


def _fetched(answer: Answer, topic: str) -> FetchedBatches:
    number, error_code, high_watermark, _stable, _log_start, _aborted, size = answer.take(_RESULT)
    batches = answer.data(size) if size > 0 else b""
    return FetchedBatches(TopicPartition(topic, number), error_code, high_watermark, batches)
