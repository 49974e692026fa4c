"""A member's own lag, from what the broker told it with its last answers."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from aiokafka.structs import TopicPartition as AiokafkaPartition

from schemas.ports import TopicPartition
from turnstream.log import kafka_group_consumer
from turnstream.log.kafka_group_consumer import KafkaGroupConsumer
from turnstream.log.settings import KafkaSettings

ONE, TWO = TopicPartition("t", 0), TopicPartition("t", 1)


@dataclass
class Got:
    offset: int
    timestamp: int


class FakeKafka:
    def __init__(self, ends: Mapping[TopicPartition, int | None]) -> None:
        self.ends = ends
        self.batch: dict[Any, list[Got]] = {}

    def assignment(self) -> set[Any]:
        return {AiokafkaPartition(*partition) for partition in self.ends}

    def highwater(self, partition: Any) -> int | None:
        return self.ends[TopicPartition(partition.topic, partition.partition)]

    async def getmany(self, **_limits: object) -> dict[Any, list[Got]]:
        return self.batch


async def member(monkeypatch: pytest.MonkeyPatch, ends: Mapping[TopicPartition, int | None]) -> KafkaGroupConsumer:
    """It was given offsets 3 and 4 of ONE, written at 50 s and 60 s, and nothing of TWO."""
    kafka = FakeKafka(ends)
    monkeypatch.setattr(KafkaGroupConsumer, "_client", lambda _: kafka)

    def nothing(_fetched: Iterable[object]) -> list[object]:
        return []

    monkeypatch.setattr(kafka_group_consumer, "to_records", nothing)
    consumer = KafkaGroupConsumer(KafkaSettings(), "g", ("t",))
    consumer._held = frozenset((ONE, TWO))
    kafka.batch = {AiokafkaPartition(*ONE): [Got(3, 50_000), Got(4, 60_000)]}
    await consumer.poll(10, 0)
    return consumer


async def test_lag_is_what_is_left_after_the_last_poll_and_its_age(monkeypatch: pytest.MonkeyPatch) -> None:
    consumer = await member(monkeypatch, {ONE: 9, TWO: 4})
    assert consumer.lag_records() == 4
    assert consumer.lag_seconds(65.5) == pytest.approx(5.5)


async def test_a_member_that_has_all_is_not_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    consumer = await member(monkeypatch, {ONE: 5, TWO: None})
    assert (consumer.lag_records(), consumer.lag_seconds(1_000)) == (0, 0)


async def test_a_rebalance_is_no_lag_and_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    consumer = await member(monkeypatch, {})
    assert (consumer.lag_records(), consumer.lag_seconds(1_000)) == (0, 0)
