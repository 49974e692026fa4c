"""What aiokafka alone would not survive: each test is a trap that was met."""

import asyncio
import os
import signal
import uuid
from collections.abc import Iterator

import pytest

from schemas.errors import OutcomeUnknown
from schemas.ports import Outgoing, TopicPartition
from schemas.topics import TopicPlan
from tests.support.log_backends import kafka_backend, local_broker
from turnstream.log.kafka_log_reader import KafkaLogReader
from turnstream.log.kafka_log_tail import KafkaLogTail
from turnstream.log.kafka_producer import KafkaProducer
from turnstream.log.kafka_topics import create_topics
from turnstream.log.settings import KafkaSettings

pytestmark = pytest.mark.integration


@pytest.fixture
def own_broker() -> Iterator[tuple[KafkaSettings, int]]:
    """A broker of one test alone, with the id of its process."""
    with local_broker() as (settings, pid):
        yield settings, pid


async def test_after_a_batch_that_the_broker_refused_the_next_append_works(broker: KafkaSettings) -> None:
    # An idempotent aiokafka producer answers OutOfOrderSequence for ever after MessageSizeTooLarge.
    topic = f"small-{uuid.uuid4().hex[:8]}"
    await create_topics(broker, [TopicPlan(topic, 1, 1, (("max.message.bytes", "2000"),))])
    async with KafkaProducer(broker) as producer:
        assert list(await producer.append([Outgoing(topic, b"k", b"v")])) == [0]
        with pytest.raises(OutcomeUnknown):
            await producer.append([Outgoing(topic, b"k", b"x" * 5_000)])
        assert list(await producer.append([Outgoing(topic, b"k", b"v")])) == [1]


async def test_a_producer_is_replaced_before_its_sequence_numbers_end(broker: KafkaSettings) -> None:
    async with kafka_backend(broker) as backend:
        settings = broker.model_copy(update={"records_per_producer_max": 10})
        async with KafkaProducer(settings) as producer:
            offsets = [
                offset
                for number in range(35)
                for offset in await producer.append([Outgoing(backend.topic, b"k", b"%d" % number, (), 0)])
            ]
        assert offsets == list(range(35))


async def test_appends_during_a_replacement_are_kept_in_order(broker: KafkaSettings) -> None:
    async with kafka_backend(broker) as backend:
        settings = broker.model_copy(update={"records_per_producer_max": 20})
        async with KafkaProducer(settings) as producer, asyncio.TaskGroup() as tasks:
            for number in range(100):
                tasks.create_task(producer.append([Outgoing(backend.topic, b"k", b"%d" % number, (), number % 4)]))
        async with KafkaLogReader(broker) as reader:
            ends = await reader.end_offsets([backend.partition(number) for number in range(4)])
        assert set(ends.values()) == {25}


async def test_a_broker_that_stops_answering_makes_the_outcome_unknown_in_time(
    own_broker: tuple[KafkaSettings, int],
) -> None:
    settings, pid = own_broker
    settings = settings.model_copy(update={"append_seconds_max": 0.5, "close_seconds_max": 1.0})
    async with kafka_backend(settings) as backend, KafkaProducer(settings) as producer:
        record = Outgoing(backend.topic, b"k", b"v", (), 0)
        await producer.append([record])
        os.kill(pid, signal.SIGSTOP)
        try:
            # All wait at once: one after the other they would take twice as long as this.
            async with asyncio.timeout(5):
                outcomes = await asyncio.gather(*[producer.append([record]) for _ in range(20)], return_exceptions=True)
            assert {type(outcome) for outcome in outcomes} == {OutcomeUnknown}
        finally:
            os.kill(pid, signal.SIGCONT)
        assert await _append_until_known(producer, record) >= 1
        async with KafkaLogReader(settings) as reader:
            partition = TopicPartition(backend.topic, 0)
            end = (await reader.end_offsets([partition]))[partition]
            assert len(await reader.read_range(partition, 0, end)) >= 2


async def test_a_broker_that_is_started_again_has_every_record_once_and_readers_go_on(
    own_broker: tuple[KafkaSettings, int],
) -> None:
    settings, pid = own_broker
    settings = settings.model_copy(update={"append_seconds_max": 60, "read_seconds_max": 60})
    async with kafka_backend(settings) as backend:
        partitions = [backend.partition(number) for number in range(4)]

        async def append_some(producer: KafkaProducer, writer: int) -> None:
            for number in range(40):
                if (writer, number) == (0, 10):
                    os.kill(pid, signal.SIGKILL)
                value = b"%d.%d" % (writer, number)
                await producer.append([Outgoing(backend.topic, b"k", value, (), writer % 4)])

        async with KafkaProducer(settings) as producer, KafkaLogTail(settings, partitions) as tail:
            async with asyncio.TaskGroup() as writers:
                for writer in range(8):
                    writers.create_task(append_some(producer, writer))
            heard: list[bytes] = []
            async with asyncio.timeout(60):
                while len(heard) < 8 * 40:
                    heard += [record.value for record in await tail.poll(1_000, 1)]
            heard += [record.value for record in await tail.poll(1_000, 0.2)]
        assert sorted(heard) == sorted(b"%d.%d" % (writer, number) for writer in range(8) for number in range(40))
        # Each writer's records in their order: its partition's batches never overtook each other.
        for writer in range(8):
            mine = [value for value in heard if value.startswith(b"%d." % writer)]
            assert mine == [b"%d.%d" % (writer, number) for number in range(40)]


async def _append_until_known(producer: KafkaProducer, record: Outgoing) -> int:
    async with asyncio.timeout(10):
        while True:
            try:
                (offset,) = await producer.append([record])
            except OutcomeUnknown:
                continue
            return offset
