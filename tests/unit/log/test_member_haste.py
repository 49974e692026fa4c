"""How long the broker gathers records for a member: while they come, or not at all."""

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.structs import TopicPartition as AiokafkaPartition

from turnstream.log import kafka_group_consumer
from turnstream.log.kafka_group_consumer import Haste, KafkaGroupConsumer
from turnstream.log.settings import KafkaSettings

SETTINGS = KafkaSettings(fetch_wait_ms_max=500, gathered_fetch_wait_ms_max=20, lazy_fetch_bytes_min=1_000)
SOME = {AiokafkaPartition("t", 0): [SimpleNamespace(offset=3, timestamp=1)]}


class FakeKafka:
    """aiokafka's consumer, with the two limits that its fetcher reads for each fetch."""

    def __init__(self) -> None:
        self._fetcher = SimpleNamespace(_fetch_min_bytes=1, _fetch_max_wait_ms=500)
        self.batch: dict[Any, list[Any]] = {}

    async def getmany(self, **_limits: object) -> dict[Any, list[Any]]:
        return self.batch

    @property
    def limits(self) -> tuple[int, int]:
        return self._fetcher._fetch_min_bytes, self._fetcher._fetch_max_wait_ms


@pytest.fixture
def kafka(monkeypatch: pytest.MonkeyPatch) -> FakeKafka:
    fake = FakeKafka()
    monkeypatch.setattr(KafkaGroupConsumer, "_client", lambda _: fake)
    monkeypatch.setattr(kafka_group_consumer, "to_records", list)
    return fake


async def test_records_that_come_soon_are_gathered_until_there_is_a_pause(kafka: FakeKafka) -> None:
    member = KafkaGroupConsumer(SETTINGS, "g", ("t",), haste=Haste.SOON)
    kafka.batch = SOME
    await member.poll(10, 0)
    assert kafka.limits == (1_000, 20)
    kafka.batch = {}
    await member.poll(10, 0)
    assert kafka.limits == (1, 500)


@pytest.mark.parametrize("haste", [Haste.AT_ONCE, Haste.LAZY])
async def test_other_members_wait_as_they_began(kafka: FakeKafka, haste: Haste) -> None:
    member = KafkaGroupConsumer(SETTINGS, "g", ("t",), haste=haste)
    kafka.batch = SOME
    await member.poll(10, 0)
    assert kafka.limits == (1, 500)


def test_aiokafka_reads_these_limits_for_each_fetch() -> None:
    limits = vars(FakeKafka()._fetcher)
    assert limits.keys() <= set(Fetcher._get_actions_per_node.__code__.co_names)
