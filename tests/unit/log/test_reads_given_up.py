"""Reads of a log whose broker says nothing, or not enough."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from schemas.errors import Retryable
from schemas.ports import TopicPartition
from turnstream.log.kafka_log_reader import KafkaLogReader
from turnstream.log.ranges import Span
from turnstream.log.settings import KafkaSettings
from turnstream.log.wire.batches import Fetched

PARTITION = TopicPartition("t", 0)


class Silent:
    """A broker that takes requests and answers none."""

    async def connect(self) -> None:
        pass

    async def close(self) -> None:
        pass

    def by_leader(self, partitions: Iterable[TopicPartition]) -> Mapping[int, list[TopicPartition]]:
        return {1: list(partitions)}

    async def fetch(self, _leader: int, _wanted: Mapping[TopicPartition, Span]) -> Mapping[TopicPartition, Fetched]:
        await asyncio.Event().wait()
        return {}


class Empty(Silent):
    """A broker whose log stays empty."""

    async def fetch(self, _leader: int, wanted: Mapping[TopicPartition, Span]) -> Mapping[TopicPartition, Fetched]:
        return {partition: Fetched((), span.start) for partition, span in wanted.items()}


def reader_of(wire: Any, read_seconds_max: float) -> KafkaLogReader:
    reader = KafkaLogReader(KafkaSettings(read_seconds_max=read_seconds_max, ranges_pending_max=2))
    reader._wire = wire
    return reader


@pytest.mark.parametrize("wire", [Silent(), Empty()])
async def test_a_read_that_takes_too_long_is_given_up_and_makes_room(wire: Silent) -> None:
    async with asyncio.timeout(5), reader_of(wire, 0.02) as reader:
        for _ in range(2):
            reads = [reader.read_range(PARTITION, 0, 1) for _ in range(2)]
            outcomes = await asyncio.gather(*reads, return_exceptions=True)
            assert all(isinstance(outcome, Retryable) for outcome in outcomes)


async def test_nobody_waits_for_a_reader_that_is_closed() -> None:
    async with asyncio.timeout(5):
        async with reader_of(Silent(), 60) as reader:
            waiting = asyncio.ensure_future(reader.read_range(PARTITION, 0, 1))
            await asyncio.sleep(0)
        with pytest.raises(Retryable):
            await waiting
