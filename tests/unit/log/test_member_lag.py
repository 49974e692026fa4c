"""A member's own lag, from what the broker told it with its last answers."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from schemas.ports import TopicPartition
from turnstream.log.kafka_group_consumer import KafkaGroupConsumer
from turnstream.log.settings import KafkaSettings

ONE, TWO = TopicPartition("t", 0), TopicPartition("t", 1)


def entry(offset: int, timestamp: int) -> Any:
    return SimpleNamespace(offset=offset, key=b"k", value=b"v", headers=[], timestamp=timestamp)


class GaveTwoRecords:
    """A follower that gave out offsets 3 and 4 of ONE, written at 50 s and 60 s, and nothing of TWO."""

    def __init__(self, ends: Mapping[TopicPartition, int | None]) -> None:
        self._ends = ends
        self.partitions = {ONE: None, TWO: None}.keys()

    async def next_entries(self, _records_max: int, _wait_s: float) -> Mapping[TopicPartition, list[Any]]:
        return {ONE: [entry(3, 50_000), entry(4, 60_000)]}

    def position(self, partition: TopicPartition) -> int:
        return {ONE: 5, TWO: 0}[partition]

    def high_watermark(self, partition: TopicPartition) -> int | None:
        return self._ends.get(partition)


class Aiokafka:
    async def getmany(self, **_limits: object) -> Mapping[Any, Any]:
        return {}


async def member(monkeypatch: pytest.MonkeyPatch, ends: Mapping[TopicPartition, int | None]) -> KafkaGroupConsumer:
    monkeypatch.setattr(KafkaGroupConsumer, "_client", lambda _: Aiokafka())
    consumer = KafkaGroupConsumer(KafkaSettings(), "g", ("t",))
    consumer._held = frozenset((ONE, TWO))
    follower: Any = GaveTwoRecords(ends)
    consumer._follower = follower
    await consumer.poll(10, 0)
    return consumer


async def test_lag_is_what_is_left_after_the_last_poll_and_its_age(monkeypatch: pytest.MonkeyPatch) -> None:
    consumer = await member(monkeypatch, {ONE: 9, TWO: 0})
    assert consumer.lag_records() == 4
    assert consumer.lag_seconds(65.5) == pytest.approx(5.5)


async def test_a_member_that_has_all_is_not_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    consumer = await member(monkeypatch, {ONE: 5, TWO: None})
    assert (consumer.lag_records(), consumer.lag_seconds(1_000)) == (0, 0)


async def test_before_the_first_answer_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    consumer = await member(monkeypatch, {})
    assert (consumer.lag_records(), consumer.lag_seconds(1_000)) == (0, 0)
