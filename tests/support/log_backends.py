"""The log ports on two backends, so that one suite of tests holds for both."""

import asyncio
import os
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Protocol

from aiokafka import AIOKafkaProducer

from schemas.ports import GroupConsumer, LogReader, LogTail, Outgoing, PostingProducer, TopicPartition
from schemas.topics import TopicPlan
from tests.support.memory_log import MemoryLog
from turnstream.local_stack.plan import StackOptions
from turnstream.local_stack.settings import StackSettings
from turnstream.local_stack.stack import Stack
from turnstream.log.kafka_group_consumer import KafkaGroupConsumer
from turnstream.log.kafka_log_reader import KafkaLogReader
from turnstream.log.kafka_log_tail import KafkaLogTail
from turnstream.log.kafka_producer import KafkaProducer
from turnstream.log.kafka_topics import create_topics
from turnstream.log.settings import KafkaSettings

PARTITIONS = 4
RUNNING_BROKER = "TURNSTREAM_TEST_KAFKA"


class LogBackend(Protocol):
    """One topic, and clients for it. ``wait_s`` is how long a poll may take that must find something."""

    topic: str
    wait_s: float

    def partition(self, number: int) -> TopicPartition: ...

    def producer(self) -> AbstractAsyncContextManager[PostingProducer]: ...

    def consumer(self, group: str) -> AbstractAsyncContextManager[GroupConsumer]: ...

    def reader(self) -> AbstractAsyncContextManager[LogReader]: ...

    def tail(self, partitions: Sequence[TopicPartition]) -> AbstractAsyncContextManager[LogTail]: ...

    async def leave_gap(self, number: int) -> None:
        """Use up at least one offset of a partition without a record that readers see."""


class MemoryBackend:
    """A MemoryLog behind ``LogBackend``."""

    topic = "contract"
    wait_s = 1.0

    def __init__(self) -> None:
        self.log = MemoryLog(PARTITIONS)

    def partition(self, number: int) -> TopicPartition:
        return TopicPartition(self.topic, number)

    def producer(self) -> AbstractAsyncContextManager[PostingProducer]:
        return self.log.producer()

    def consumer(self, group: str) -> AbstractAsyncContextManager[GroupConsumer]:
        return self.log.consumer(group, [self.topic])

    def reader(self) -> AbstractAsyncContextManager[LogReader]:
        return self.log.reader()

    def tail(self, partitions: Sequence[TopicPartition]) -> AbstractAsyncContextManager[LogTail]:
        return self.log.tail(partitions)

    async def leave_gap(self, number: int) -> None:
        await asyncio.sleep(0)
        self.log.leave_gap(self.partition(number), 1)


class KafkaBackend:
    """A fresh topic on a broker behind ``LogBackend``."""

    wait_s = 10.0

    def __init__(self, settings: KafkaSettings, topic: str) -> None:
        self.settings = settings
        self.topic = topic

    def partition(self, number: int) -> TopicPartition:
        return TopicPartition(self.topic, number)

    def producer(self) -> AbstractAsyncContextManager[PostingProducer]:
        return KafkaProducer(self.settings)

    def consumer(self, group: str) -> AbstractAsyncContextManager[GroupConsumer]:
        return KafkaGroupConsumer(self.settings, f"{self.topic}.{group}", [self.topic])

    def reader(self) -> AbstractAsyncContextManager[LogReader]:
        return KafkaLogReader(self.settings)

    def tail(self, partitions: Sequence[TopicPartition]) -> AbstractAsyncContextManager[LogTail]:
        return KafkaLogTail(self.settings, partitions)

    async def leave_gap(self, number: int) -> None:
        # The marker that ends a transaction takes an offset and is no record; it may come after the commit's answer.
        partition = self.partition(number)
        writer = AIOKafkaProducer(
            bootstrap_servers=self.settings.bootstrap_servers, transactional_id=f"gap-{uuid.uuid4().hex}"
        )
        async with KafkaLogReader(self.settings) as reader, writer:
            async with writer.transaction():
                sent = await writer.send_and_wait(self.topic, b"in a transaction", key=b"gap", partition=number)
            while (await reader.end_offsets([partition]))[partition] < sent.offset + 2:  # noqa: ASYNC110 - a broker
                await asyncio.sleep(0.01)


@asynccontextmanager
async def kafka_backend(settings: KafkaSettings) -> AsyncIterator[KafkaBackend]:
    """A backend on a topic of its own."""
    topic = f"contract-{uuid.uuid4().hex[:12]}"
    await create_topics(settings, [TopicPlan(topic, PARTITIONS, 1, ())])
    # Short, because some tests wait for the end of these times.
    quick = settings.model_copy(update={"read_seconds_max": 1.0, "heartbeat_ms": 300})
    yield KafkaBackend(quick, topic)


@contextmanager
def kafka_broker() -> Iterator[KafkaSettings]:
    """The broker named by TURNSTREAM_TEST_KAFKA (host:port), or one that lives as long as this context."""
    running = os.environ.get(RUNNING_BROKER)
    if running:
        yield KafkaSettings(bootstrap_servers=running)
        return
    with local_broker() as (settings, _):
        yield settings


@contextmanager
def local_broker() -> Iterator[tuple[KafkaSettings, int]]:
    """A broker that lives as long as this context, and the id of its process."""
    with tempfile.TemporaryDirectory() as home:
        settings = StackSettings(home=Path(home), jars=StackSettings().layout().jars)
        options = StackOptions(servers=("kafka",), processes=(), bootstrap=None)
        with Stack(settings, options) as stack:
            pid = stack.part("kafka").pid
            assert pid is not None
            yield KafkaSettings(bootstrap_servers=stack.endpoints.kafka), pid


def numbered(backend: LogBackend, count: int, partition: int | None = None, key: bytes = b"k") -> list[Outgoing]:
    """``count`` records whose values are their numbers."""
    return [Outgoing(backend.topic, key, b"%d" % number, (("n", b"1"),), partition) for number in range(count)]
