"""Where Faust's consumer goes on reading once a group has met; without Kafka."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread

from stream_processors.windows.faust_lean import LeanThread

READ, NEW, TOLD = (TopicPartition("usage", partition) for partition in range(3))
CHANGELOG = TopicPartition("windows-changelog", 0)
BEGINNING = 3


class Consumer:
    """aiokafka's, as far as it is asked: what is moved, and what is left."""

    def __init__(self, *assigned: TopicPartition) -> None:
        self._assigned = frozenset(assigned)
        self.moved: dict[TopicPartition, int] = {}

    async def beginning_offsets(self, places: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        return dict.fromkeys(places, BEGINNING)

    def assignment(self) -> frozenset[TopicPartition]:
        return self._assigned

    def seek(self, place: TopicPartition, offset: int) -> None:
        self.moved[place] = offset


async def begun_anew(
    monkeypatch: pytest.MonkeyPatch, consumer: Consumer, committed: Mapping[TopicPartition, int | None]
) -> Mapping[TopicPartition, int]:
    """The partitions that are moved, and where to, when these offsets are all that is committed."""

    async def seek_to_committed(_: Any) -> Mapping[TopicPartition, int | None]:
        return committed

    async def call_thread(_: Any, work: Callable[..., Awaitable[None]], *arguments: Any) -> None:
        await work(*arguments)

    monkeypatch.setattr(AIOKafkaConsumerThread, "seek_to_committed", seek_to_committed)
    monkeypatch.setattr(AIOKafkaConsumerThread, "call_thread", call_thread)
    monkeypatch.setattr(AIOKafkaConsumerThread, "_ensure_consumer", lambda _: consumer)
    thread = LeanThread.__new__(LeanThread)
    thread.app = SimpleNamespace(tables=SimpleNamespace(changelog_topics={CHANGELOG.topic}))
    assert await thread.seek_to_committed() == committed
    return consumer.moved


async def test_what_has_no_commit_is_read_from_its_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    # A reset by an operator commits 0, which aiokafka passes over too.
    committed = {READ: 7, NEW: None, TOLD: 0, CHANGELOG: None}
    moved = await begun_anew(monkeypatch, Consumer(READ, NEW, TOLD, CHANGELOG), committed)
    assert moved == {NEW: BEGINNING, TOLD: BEGINNING}


async def test_what_was_taken_away_meanwhile_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await begun_anew(monkeypatch, Consumer(NEW), {NEW: None, TOLD: None}) == {NEW: BEGINNING}


async def test_nothing_moves_when_all_is_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await begun_anew(monkeypatch, Consumer(READ, CHANGELOG), {READ: 7, CHANGELOG: None}) == {}
