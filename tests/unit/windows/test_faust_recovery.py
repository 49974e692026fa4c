"""Where Faust's consumer goes on reading once a group has met; without Kafka."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread

from stream_processors.windows.faust_lean import LeanThread

READ, NEW, TOLD = (TopicPartition("usage", partition) for partition in range(3))
CHANGELOG = TopicPartition("windows-changelog", 0)


async def begun_anew(monkeypatch: pytest.MonkeyPatch, committed: Mapping[TopicPartition, int | None]) -> list[Any]:
    """The moves to a beginning, each with its partitions, when these offsets are all that is committed."""
    moves: list[Any] = []

    async def seek_to_committed(_: Any) -> Mapping[TopicPartition, int | None]:
        return committed

    async def seek_to_beginning(_: Any, *places: TopicPartition) -> None:
        moves.append(places)

    monkeypatch.setattr(AIOKafkaConsumerThread, "seek_to_committed", seek_to_committed)
    monkeypatch.setattr(AIOKafkaConsumerThread, "seek_to_beginning", seek_to_beginning)
    thread = LeanThread.__new__(LeanThread)
    thread.app = SimpleNamespace(tables=SimpleNamespace(changelog_topics={CHANGELOG.topic}))
    assert await thread.seek_to_committed() == committed
    return moves


async def test_what_has_no_commit_is_read_from_its_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    # A reset by an operator commits 0, which aiokafka passes over too.
    assert await begun_anew(monkeypatch, {READ: 7, NEW: None, TOLD: 0, CHANGELOG: None}) == [(NEW, TOLD)]


async def test_nothing_moves_when_all_is_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    # A move without partitions would be one of all of them.
    assert await begun_anew(monkeypatch, {READ: 7, CHANGELOG: None}) == []
