"""The way of a record through Faust without tasks, and records that are written by the partition."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import MessageSizeTooLargeError

from stream_processors.windows.core import WindowsSettings
from stream_processors.windows.faust_app import make_app
from stream_processors.windows.faust_lean import LeanProducer, WithoutTasks
from stream_processors.windows.faust_records import Write
from tests.support.turn_events import CountedMetrics


def test_a_worker_leaves_no_folders_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    app = make_app(WindowsSettings(), 1, CountedMetrics())
    asyncio.run(app.on_first_start())
    assert list(tmp_path.iterdir()) == []


async def test_what_does_not_wait_is_done_in_this_task() -> None:
    async def here() -> Any:
        return asyncio.current_task()

    found = await WithoutTasks().wait_first(here(), asyncio.Event().wait())
    assert (found.results, found.stopped) == ([asyncio.current_task()], False)


async def test_what_waits_goes_on_where_it_was() -> None:
    begun, go = asyncio.Event(), asyncio.Event()
    done = []

    async def slow() -> str:
        done.append("begun")
        begun.set()
        await go.wait()
        await asyncio.sleep(0)
        done.append("done")
        return "result"

    waiting = asyncio.create_task(WithoutTasks().wait_first(slow(), asyncio.Event().wait()))
    await begun.wait()
    go.set()
    assert (await waiting).results == ["result"]
    assert done == ["begun", "done"]


async def test_another_that_is_first_ends_what_waits() -> None:
    ended = asyncio.Event()

    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    suspended = asyncio.Event()
    suspended.set()
    await WithoutTasks().wait_first(slow(), suspended.wait())
    await ended.wait()


async def test_what_fails_at_once_or_later_is_raised() -> None:
    async def fail(*, later: bool) -> None:
        if later:
            await asyncio.sleep(0)
        raise OSError("no")

    for later in (False, True):
        with pytest.raises(OSError, match="no"):
            await WithoutTasks().wait_first(fail(later=later), asyncio.Event().wait())


@dataclass
class Batch:
    """Takes two records."""

    values: list[bytes | None] = field(default_factory=list)

    def append(self, *, timestamp: None, key: bytes, value: bytes | None, headers: list[Any]) -> object | None:
        del timestamp, key, headers
        if len(self.values) == 2 or value == b"too large":
            return None
        self.values.append(value)
        return self


@dataclass
class Kafka:
    """What was sent; each batch fails or arrives at once."""

    failure: Exception | None = None
    sent: list[tuple[str, int, list[bytes | None]]] = field(default_factory=list)

    async def partitions_for(self, topic: str) -> Sequence[str]:
        return [topic]

    def create_batch(self) -> Batch:
        return Batch()

    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> "asyncio.Future[None]":
        self.sent.append((topic, partition, batch.values))
        future = asyncio.get_running_loop().create_future()
        if self.failure is None:
            future.set_result(None)
        else:
            future.set_exception(self.failure)
        return future


class Producer:
    """Ours, on the Kafka above; a key is in the partition of its length."""

    write_all: Any = LeanProducer.write_all

    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka

    def _ensure_producer(self) -> Kafka:
        return self._kafka

    def key_partition(self, topic: str, key: bytes) -> Any:
        return SimpleNamespace(topic=topic, partition=len(key))


def write(key: bytes, value: bytes | None, partition: int | None = None) -> Write:
    return Write("topic", key, value, (), partition)


async def test_records_of_a_partition_go_together_in_their_order() -> None:
    kafka = Kafka()
    values = [write(b"a", b"1"), write(b"bb", b"2"), write(b"c", b"3"), write(b"a", None), write(b"a", b"4", 7)]
    await Producer(kafka).write_all(values)
    assert kafka.sent == [
        ("topic", 1, [b"1", b"3"]),
        ("topic", 1, [None]),
        ("topic", 2, [b"2"]),
        ("topic", 7, [b"4"]),
    ]


async def test_what_the_broker_refuses_is_raised() -> None:
    with pytest.raises(OSError, match="no"):
        await Producer(Kafka(OSError("no"))).write_all([write(b"a", b"1")])
    with pytest.raises(MessageSizeTooLargeError):
        await Producer(Kafka()).write_all([write(b"a", b"too large")])
