"""The first offset of a time, while records are appended."""

from collections.abc import Mapping
from typing import Any

from schemas.ports import TopicPartition
from turnstream.log.kafka_log_reader import KafkaLogReader
from turnstream.log.kafka_wire import LATEST
from turnstream.log.settings import KafkaSettings

PARTITION = TopicPartition("t", 0)


class FirstRecordComes:
    """An empty partition that gets its first record after it was asked for the first time."""

    def __init__(self) -> None:
        self._end = 0

    async def list_offsets(self, timestamps: Mapping[TopicPartition, int]) -> Mapping[TopicPartition, int]:
        (timestamp,) = timestamps.values()
        end, self._end = self._end, 1
        return {PARTITION: end if timestamp == LATEST else end - 1}


class StaysEmpty:
    async def list_offsets(self, timestamps: Mapping[TopicPartition, int]) -> Mapping[TopicPartition, int]:
        (timestamp,) = timestamps.values()
        return {PARTITION: 7 if timestamp == LATEST else -1}


async def offset_at(wire: Any) -> int:
    reader = KafkaLogReader(KafkaSettings())
    reader._wire = wire
    return (await reader.offsets_at([PARTITION], 5))[PARTITION]


async def test_a_record_that_comes_while_it_is_asked_is_not_skipped() -> None:
    assert await offset_at(FirstRecordComes()) == 0


async def test_where_nothing_newer_comes_it_is_the_end() -> None:
    assert await offset_at(StaysEmpty()) == 7
