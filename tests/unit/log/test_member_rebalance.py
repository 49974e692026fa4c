"""A member while its group finds a new assignment."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from aiokafka.errors import IllegalStateError

from schemas.ports import TopicPartition
from turnstream.log.kafka_group_consumer import KafkaGroupConsumer
from turnstream.log.settings import KafkaSettings


class TakenAway:
    """aiokafka's consumer when a partition is no longer its own, of which it has not told yet."""

    async def getmany(self, **_limits: object) -> Mapping[Any, Any]:
        return {}

    async def position(self, _partition: object) -> int:
        raise IllegalStateError


async def test_polling_in_a_loop_leaves_others_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KafkaGroupConsumer, "_client", lambda _: TakenAway())
    member = KafkaGroupConsumer(KafkaSettings(), "g", ("t",))
    member._held = frozenset((TopicPartition("t", 0),))
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count_turns())
    for _ in range(3):
        assert await member.poll(10, 0) == []
    counting.cancel()
    assert turns >= 3
