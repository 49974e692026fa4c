"""Records that can never be processed, on every topic that a stage of ours consumes: buried once, told, passed."""

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Final

import openai
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionMessageParam

from schemas import headers, ids, serde
from schemas.errors import Malformed
from schemas.stream_state import INITIAL, advance
from schemas.tokens import Failed
from schemas.topics import INFERENCE_REQUESTS, TOKENS, TURNS_SUBMITTED, USAGE_EVENTS, Topic
from schemas.topics import TURNS_ADMITTED as ADMITTED
from schemas.topics import TURNS_AUTHORIZED as AUTHORIZED
from schemas.topics import TURNS_PROMPTED as PROMPTED
from tests.support.full_stack import MODEL, RECOVERY_SECONDS_MAX, FullStack, StreamedTurn, eventually
from tests.support.topic_scan import LogRecord

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

CONSUMED: Final = (
    TURNS_SUBMITTED,
    AUTHORIZED,
    ADMITTED,
    PROMPTED,
    *INFERENCE_REQUESTS.values(),
    TOKENS,
    USAGE_EVENTS,
)
# Faust reads for its windows alone, and commits in its own time.
NOT_OURS: Final = frozenset({"turnstream.windows"})
POISON: Final[Mapping[str, bytes]] = {
    "truncated": b'{"turn": {"turn_id": "',
    "no event": b"{}",
    "empty": b"",
    "deeply nested": b"[" * 100_000,
    "huge integer": b'{"message_seq": ' + b"9" * 100_000 + b"}",
    "invalid utf-8": b'{"turn": "\xff\xfe"}',
}
TOKENS_PARTITION: Final = 0
TOKENS_PARTITIONS_NEVER: Final = 60_000


@asynccontextmanager
async def raw_producer(turnstream: FullStack) -> AsyncIterator[AIOKafkaProducer]:
    """A client that checks nothing."""
    producer = AIOKafkaProducer(bootstrap_servers=turnstream.stack.endpoints.kafka, max_request_size=2_000_000)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


def new_turn(partition: int = TOKENS_PARTITION) -> str:
    return ids.new_turn_id(time.time_ns() // 1_000_000, partition, secrets.token_bytes(ids.TURN_ENTROPY_BYTES))


async def poison_topic(producer: AIOKafkaProducer, topic: Topic) -> dict[tuple[str, int, int], str]:
    """One record of each kind, and one of a schema to come; the turn of each by where it lies."""
    turns = {}
    values = [(value, topic.name) for value in POISON.values()]
    values.append((b'{"type": "probed", "edge_id": "e", "nonce": "n"}', f"{topic.name}9"))
    for value, schema in values:
        turn_id = new_turn()
        written = [(headers.SCHEMA, schema.encode()), (headers.TURN, turn_id.encode())]
        partition = TOKENS_PARTITION if topic is TOKENS else None
        put = await producer.send_and_wait(topic.name, value, turn_id.encode(), partition, headers=written)
        turns[put.topic, put.partition, put.offset] = turn_id
    return turns


def origin(letter: LogRecord) -> tuple[str, int, int]:
    return (
        letter.headers[headers.DLQ_TOPIC],
        int(letter.headers[headers.DLQ_PARTITION]),
        int(letter.headers[headers.DLQ_OFFSET]),
    )


def terminals(records: Iterable[LogRecord], turn_id: str) -> list[object]:
    """What ended the turn, as every reader understands it."""
    state = INITIAL
    for record in records:
        if record.topic == TOKENS.name and record.key == turn_id.encode():
            try:
                state = advance(state, serde.decode_token(record.value))
            except Malformed:
                continue
    return [] if state.terminal is None else [state.terminal]


async def lag(turnstream: FullStack, topic: Topic, group: str) -> int:
    """Records of the topic that the group has not committed."""
    servers = turnstream.stack.endpoints.kafka
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    consumer = AIOKafkaConsumer(bootstrap_servers=servers, enable_auto_commit=False)
    await admin.start()
    await consumer.start()
    try:
        count = len((await admin.describe_topics([topic.name]))[0]["partitions"])
        partitions = [TopicPartition(topic.name, number) for number in range(count)]
        committed = await admin.list_consumer_group_offsets(group, partitions=partitions)
        ends = await consumer.end_offsets(partitions)
        begins = await consumer.beginning_offsets(partitions)
    finally:
        await consumer.stop()
        await admin.close()
    return sum(ends[one] - max(committed[one].offset if one in committed else 0, begins[one], 0) for one in partitions)


async def ask(client: AsyncOpenAI, text: str = "[[demo tokens=20]]") -> str:
    question: ChatCompletionMessageParam = {"role": "user", "content": text}
    answer = await client.chat.completions.create(model=MODEL, messages=[question])
    return answer.choices[0].message.content or ""


@pytest.mark.parametrize("topic", CONSUMED, ids=lambda topic: topic.name)
async def test_poison_is_buried_once_its_client_told_and_the_topic_goes_on(
    turnstream: FullStack, client: AsyncOpenAI, topic: Topic
) -> None:
    async with raw_producer(turnstream) as producer:
        turns = await poison_topic(producer, topic)

    async def all_buried() -> bool:
        found = {origin(record) for record in await turnstream.records() if record.topic == topic.dlq}
        return turns.keys() <= found

    await eventually(all_buried, RECOVERY_SECONDS_MAX)
    for group in set(topic.groups) - NOT_OURS:

        async def nothing_left(group: str = group) -> bool:
            return await lag(turnstream, topic, group) == 0

        await eventually(nothing_left, RECOVERY_SECONDS_MAX)
    assert await ask(client)
    records = await turnstream.records()
    buried = [(origin(record), record.headers[headers.DLQ_STAGE]) for record in records if record.topic == topic.dlq]
    # Once by each stage that reads the topic, or twice, if a member of it was replaced just then.
    assert max(Counter(buried).values()) <= 2
    for turn_id in turns.values():
        assert [type(terminal) for terminal in terminals(records, turn_id)] == [Failed]


async def test_the_stream_of_a_turn_that_is_poisoned_ends_in_its_error(
    turnstream: FullStack, client: AsyncOpenAI
) -> None:
    question: ChatCompletionMessageParam = {"role": "user", "content": "[[demo tokens=200 gap_ms=50]]"}
    stream = await client.chat.completions.create(model=MODEL, messages=[question], stream=True)
    turn = await StreamedTurn().read(stream, until=" 16")
    async with raw_producer(turnstream) as producer:
        written = [(headers.SCHEMA, TOKENS.name.encode()), (headers.TURN, turn.turn_id.encode())]
        partition = ids.turn_partition(turn.turn_id)
        await producer.send_and_wait(TOKENS.name, b"{", turn.turn_id.encode(), partition, headers=written)
    with pytest.raises(openai.APIError) as caught:
        await turn.read(stream)
    assert caught.value.code == "turn_failed"
    assert await ask(client)


async def test_a_turn_in_a_partition_that_never_was_stops_nobody(turnstream: FullStack, client: AsyncOpenAI) -> None:
    """No client can wait for it, but every stage that meets it wants to write there."""
    turn_id = new_turn(TOKENS_PARTITIONS_NEVER)
    async with raw_producer(turnstream) as producer:
        written = [(headers.SCHEMA, TURNS_SUBMITTED.name.encode()), (headers.TURN, turn_id.encode())]
        await producer.send_and_wait(TURNS_SUBMITTED.name, b"{", b"key", headers=written)

    async def buried() -> bool:
        return any(
            record.topic == TURNS_SUBMITTED.dlq and record.turn_id == turn_id for record in await turnstream.records()
        )

    await eventually(buried, RECOVERY_SECONDS_MAX)
    async with asyncio.timeout(RECOVERY_SECONDS_MAX):
        assert await ask(client)


async def test_a_producer_serves_on_after_a_record_that_is_too_large(
    client: AsyncOpenAI,
) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        await ask(client, "word " * 400_000)
    assert 400 <= caught.value.status_code < 500
    for _ in range(3):
        assert await ask(client)
