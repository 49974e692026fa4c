"""The Faust worker on a real Kafka: totals, deaths, and what Faust must not do to its process."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from schemas import headers
from schemas.errors import Fatal, Retryable
from schemas.events import FinishReason, Usage, UsageRecorded, UsageRolledUp
from schemas.serde import decode, encode
from schemas.topics import USAGE_EVENTS, USAGE_ROLLUPS, plan_topics
from stream_processors.windows import faust_app
from stream_processors.windows.core import WindowsSettings
from stream_processors.windows.faust_lean import LeanConsumer
from stream_processors.windows.stage import run
from tests.support.real_servers import real_servers
from tests.support.turn_events import CountedMetrics

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]
MINUTE = 1_700_000_040_000
SEEN_SECONDS_MAX = 40
PARTITIONS = 2
READ_AND_WRITTEN = ("usage.", "abuse.", "moderation.")


def usage(turn: int, user: str = "ann") -> UsageRecorded:
    return UsageRecorded(
        turn_id=f"turn-{turn}",
        conversation_id="c",
        tenant_id="tenant",
        user_id=user,
        key_id="key",
        plan="free",
        model="model",
        pool="fast",
        usage=Usage(prompt_tokens=10, completion_tokens=5),
        finish_reason=FinishReason.STOP,
        attempt=1,
        duration_ms=5,
        submitted_at_ms=MINUTE,
        recorded_at_ms=MINUTE,
    )


@dataclass
class Kafka:
    """Topics, a producer of usage and a reader of rollups."""

    settings: WindowsSettings
    producer: AIOKafkaProducer
    rollups: AIOKafkaConsumer

    async def send(self, *events: UsageRecorded) -> None:
        for event in events:
            await self.producer.send_and_wait(USAGE_EVENTS.name, encode(event), key=event.user_id.encode())

    async def totals(self, user: str, turns: int) -> UsageRolledUp:
        """The first rollup of ``user`` that counts ``turns``; none may count more."""
        async with asyncio.timeout(SEEN_SECONDS_MAX):
            async for record in self.rollups:
                rollup: UsageRolledUp = decode(USAGE_ROLLUPS, record.value)
                if rollup.user_id == user and rollup.window == "minute":
                    assert record.key == f"tenant|{user}|model|minute|{MINUTE}".encode()
                    assert rollup.turns <= turns
                    if rollup.turns == turns:
                        return rollup
        raise AssertionError("unreachable")

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[None]:
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(run(self.settings, stop, CountedMetrics()))
            yield
            stop.set()


@pytest.fixture(scope="module")
def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with real_servers(tmp_path_factory.mktemp("windows"), "kafka") as stack:
        yield str(stack.endpoints.kafka)


@pytest.fixture(scope="module")
def topics(bootstrap: str) -> str:
    asyncio.run(create_topics(bootstrap))
    return bootstrap


async def create_topics(bootstrap: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    plans = [plan for plan in plan_topics(PARTITIONS, None, 1) if plan.name.startswith(READ_AND_WRITTEN)]
    await admin.create_topics([NewTopic(p.name, p.partitions, 1, topic_configs=dict(p.config)) for p in plans])
    await admin.close()


@pytest.fixture
async def kafka(topics: str) -> AsyncIterator[Kafka]:
    producer = AIOKafkaProducer(bootstrap_servers=topics)
    rollups = AIOKafkaConsumer(USAGE_ROLLUPS.name, bootstrap_servers=topics, auto_offset_reset="earliest")
    await producer.start()
    await rollups.start()
    try:
        yield Kafka(WindowsSettings(bootstrap_servers=(topics,)), producer, rollups)
    finally:
        await rollups.stop()
        await producer.stop()


async def test_usage_is_rolled_up_once_whatever_is_redelivered_and_whoever_dies(kafka: Kafka) -> None:
    async with kafka.worker():
        await kafka.send(*(usage(turn) for turn in (1, 2, 2, 1, 3)))
        first = await kafka.totals("ann", 3)
    await kafka.send(usage(3), usage(4))
    async with kafka.worker():
        await kafka.send(usage(1), usage(5))
        second = await kafka.totals("ann", 5)
    assert (first.prompt_tokens, first.completion_tokens) == (30, 15)
    assert (second.prompt_tokens, second.completion_tokens) == (50, 25)


async def test_restarts_while_usage_comes_in_lose_nothing(kafka: Kafka) -> None:
    for life in range(8):
        async with kafka.worker():
            await kafka.send(*(usage(life * 3 + turn, "joe") for turn in range(3)))
            assert (await kafka.totals("joe", life * 3 + 3)).turns == life * 3 + 3


async def test_a_new_group_loses_nothing_that_comes_while_its_flow_is_stopped(
    kafka: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch, seek = LeanConsumer._getmany, LeanConsumer.perform_seek
    dropped: list[Any] = []

    async def fetch_and_stop(consumer: Any, **limits: Any) -> Any:
        """As if another worker joined after the first fetch: Faust drops what it brought, and seeks."""
        records = await fetch(consumer, **limits)
        if records and not dropped:
            dropped.append(records)
            consumer.stop_flow()
        return records

    async def seek_and_go_on(consumer: Any) -> None:
        await seek(consumer)
        if dropped:
            consumer.resume_flow()

    monkeypatch.setattr(LeanConsumer, "_getmany", fetch_and_stop)
    monkeypatch.setattr(LeanConsumer, "perform_seek", seek_and_go_on)
    monkeypatch.setattr(faust_app, "GROUP", "turnstream.windows.new")
    await kafka.send(*(usage(turn, "sue") for turn in range(3)))
    async with kafka.worker():
        assert (await kafka.totals("sue", 3)).prompt_tokens == 30
    assert dropped


async def test_poison_goes_to_the_dead_letters_and_replays_are_not_counted(kafka: Kafka, topics: str) -> None:
    buried = AIOKafkaConsumer(USAGE_EVENTS.dlq, bootstrap_servers=topics, auto_offset_reset="earliest")
    await buried.start()
    await kafka.producer.send_and_wait(USAGE_EVENTS.name, b"{no", key=b"bob")
    replay = [(headers.REPLAY, b"1")]
    await kafka.producer.send_and_wait(USAGE_EVENTS.name, encode(usage(1, "bob")), key=b"bob", headers=replay)
    await kafka.send(usage(2, "bob"))
    async with kafka.worker():
        assert (await kafka.totals("bob", 1)).prompt_tokens == 10
        async with asyncio.timeout(SEEN_SECONDS_MAX):
            letter = await buried.getone()
    await buried.stop()
    assert letter.value == b"{no"
    assert headers.header(letter.headers, headers.DLQ_TOPIC) == USAGE_EVENTS.name
    assert headers.header(letter.headers, headers.DLQ_STAGE) == "windows"


async def test_faust_opens_no_web_server(kafka: Kafka) -> None:
    with socket.socket() as here:
        # Faust would take this port, on every interface.
        here.bind(("127.0.0.1", 6066))
        here.listen()
        async with kafka.worker():
            await kafka.send(usage(1, "eve"))
            assert (await kafka.totals("eve", 1)).turns == 1


async def test_topics_that_do_not_exist_are_fatal(
    kafka: Kafka, bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = ("usage.nowhere.v1",)
    monkeypatch.setattr("stream_processors.windows.stage._TOPICS", missing)
    with pytest.raises(Fatal, match=r"usage\.nowhere\.v1"):
        await run(
            kafka.settings.model_copy(update={"bootstrap_servers": (bootstrap,)}), asyncio.Event(), CountedMetrics()
        )


async def test_a_kafka_that_does_not_answer_is_retryable() -> None:
    settings = WindowsSettings(bootstrap_servers=("127.0.0.1:1",), start_seconds_max=5)
    with pytest.raises(Retryable):
        await run(settings, asyncio.Event(), CountedMetrics())
