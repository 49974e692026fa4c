"""The answering side and the search for turns on a real broker."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from consumers.sse.live_turns import LiveTurns
from consumers.sse.stage import Answers
from schemas import ids
from schemas.events import Turn
from schemas.ports import AnswerForm, Outgoing, Producer, TopicPartition
from schemas.tokens import Cancelled
from schemas.topics import TOKENS, plan_topics
from tests.support.memory_log import MemoryLog
from tests.support.real_servers import real_servers
from tests.support.written_client import WrittenClient
from tests.unit.ingest.edge_world import HOME, PARTITIONS, SSE, FakeMetrics, Stages, make_answers, until
from turnstream.log.kafka_log_reader import KafkaLogReader
from turnstream.log.kafka_log_tail import KafkaLogTail
from turnstream.log.kafka_producer import KafkaProducer
from turnstream.log.kafka_topics import create_topics
from turnstream.log.settings import KafkaSettings
from turnstream.log.turn_lookup import LogTurnLookup, TurnLookupSettings

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaSettings]:
    with real_servers(tmp_path_factory.mktemp("edge"), "kafka") as stack:
        yield KafkaSettings(bootstrap_servers=stack.endpoints.kafka)


@asynccontextmanager
async def edge_on(kafka: KafkaSettings) -> AsyncIterator[tuple[Producer, LiveTurns, Answers]]:
    home = [TopicPartition(TOKENS.name, partition) for partition in HOME]
    async with (
        KafkaProducer(kafka) as producer,
        KafkaLogReader(kafka) as log,
        KafkaLogTail(kafka, home) as tail,
        asyncio.TaskGroup() as tasks,
    ):
        turns = LiveTurns(
            tail,
            log,
            producer,
            HOME,
            edge_id="edge-kafka",
            settings=SSE,
            metrics=FakeMetrics(),
            entropy=os.urandom,
        )
        answers = make_answers(turns, producer, SSE)
        running = tasks.create_task(answers.run())
        yield producer, turns, answers
        running.cancel()


async def append(producer: Producer, stages: Stages) -> None:
    """Put on the broker what the stages wrote in memory."""
    records = stages.log.records(TOKENS.name)
    await producer.append(
        [Outgoing(one.topic, one.key or b"", one.value, one.headers, one.partition) for one in records]
    )


async def test_a_turn_is_streamed_cancelled_and_found_again(kafka: KafkaSettings) -> None:
    await create_topics(kafka, plan_topics(PARTITIONS, PARTITIONS, 1))
    client = WrittenClient()
    async with edge_on(kafka) as (producer, turns, answers), KafkaLogReader(kafka) as reader:
        await until(turns.ready)
        turn = new_turn(turns.home_partition())
        view = turns.open(turn.turn_id)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(answers.answer(turn, view, client.channel, AnswerForm(stream=True)))
            stages = Stages(MemoryLog(PARTITIONS), turn)
            stages.clear()
            stages.say("Hel", "lo")
            await append(producer, stages)
            await until(lambda: b'"content":"lo"' in client.body)
            await answers.cancel(turn.turn_id, "client")
        state = await LogTurnLookup(reader, TurnLookupSettings()).find(turn.turn_id)
    assert client.body.endswith(b"data: [DONE]\n\n")
    assert b'"cancelled":"client"' in client.body
    assert state.cleared is not None
    assert isinstance(state.terminal, Cancelled)


def new_turn(partition: int) -> Turn:
    now_ms = int(asyncio.get_running_loop().time() * 1000)
    return Turn(
        turn_id=ids.new_turn_id(now_ms, partition, os.urandom(8)),
        conversation_id=ids.new_conversation_id(now_ms, os.urandom(10)),
        starts_conversation=True,
        stored=False,
        model="turnstream-fast",
        submitted_at_ms=now_ms,
        deadline_ms=now_ms + 60_000,
    )
