"""What every ``HotContexts`` must keep, on the fake and on a real Redis; ``extend`` stands for the sink."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest
from redis.asyncio import Redis

from schemas.errors import Retryable
from schemas.hot_context import COMPLETE_FIELD, encode_stored, field_of
from schemas.ports import StoredMessage
from schemas.redis_keys import hot_context
from stream_processors.prompt.core import HotContexts, PromptSettings
from stream_processors.prompt.redis_context import RedisContexts
from tests.support.memory_prompting import MemoryHotContexts
from tests.support.redis_server import running_redis
from tests.support.turn_events import assistant, conversation_id, stored, user

ONE, TWO = conversation_id(1), conversation_id(2)
QUESTION = stored(10, user("what is a log?"))
ANSWER = stored(11, assistant("an ordered list of records"), of_turn=1)
LATER = stored(20, user("and a topic?"))
SETTINGS = PromptSettings()


class Sink(Protocol):
    """What the contexts suffer from others."""

    async def extend(self, conversation: str, message: StoredMessage, /) -> None: ...

    async def forget(self, conversation: str, /) -> None: ...


@dataclass
class RedisSink:
    """Extends a context that exists, as the sink does."""

    client: Redis

    async def extend(self, conversation: str, message: StoredMessage, /) -> None:
        if await self.client.exists(hot_context(conversation)):
            field = field_of(message.message_seq)
            await self.client.hset(hot_context(conversation), field, encode_stored(message))

    async def forget(self, conversation: str, /) -> None:
        await self.client.delete(hot_context(conversation))


@dataclass
class Subject:
    """The contexts under test and their sink."""

    contexts: HotContexts
    sink: Sink


@pytest.fixture(scope="module")
def redis_socket() -> Iterator[Path]:
    with running_redis() as socket:
        yield socket


@asynccontextmanager
async def flushed_redis(socket: Path) -> AsyncIterator[Redis]:
    async with Redis(unix_socket_path=str(socket)) as client:
        await client.flushall()
        yield client


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.integration)])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    if request.param == "memory":
        memory = MemoryHotContexts()
        yield Subject(memory, memory)
        return
    async with flushed_redis(request.getfixturevalue("redis_socket")) as client:
        yield Subject(RedisContexts(client, SETTINGS), RedisSink(client))


async def test_an_unknown_context_is_absent(subject: Subject) -> None:
    assert await subject.contexts.read([ONE]) == {}


async def test_a_rebuilt_context_is_read_back_oldest_first(subject: Subject) -> None:
    token = await subject.contexts.begin_rebuild([ONE, TWO])
    await subject.contexts.finish_rebuild(token, {ONE: [LATER, QUESTION, ANSWER], TWO: []})
    assert await subject.contexts.read([TWO, ONE]) == {ONE: [QUESTION, ANSWER, LATER], TWO: []}


async def test_a_context_is_absent_until_its_rebuild_is_finished(subject: Subject) -> None:
    await subject.contexts.begin_rebuild([ONE])
    await subject.sink.extend(ONE, LATER)
    assert await subject.contexts.read([ONE]) == {}


async def test_what_the_sink_stores_during_a_rebuild_is_kept(subject: Subject) -> None:
    token = await subject.contexts.begin_rebuild([ONE])
    await subject.sink.extend(ONE, LATER)
    await subject.contexts.finish_rebuild(token, {ONE: [QUESTION, ANSWER]})
    assert await subject.contexts.read([ONE]) == {ONE: [QUESTION, ANSWER, LATER]}


async def test_the_sink_extends_a_whole_context(subject: Subject) -> None:
    token = await subject.contexts.begin_rebuild([ONE])
    await subject.contexts.finish_rebuild(token, {ONE: [QUESTION]})
    await subject.sink.extend(ONE, ANSWER)
    assert await subject.contexts.read([ONE]) == {ONE: [QUESTION, ANSWER]}


async def test_a_rebuild_of_a_context_that_is_gone_publishes_nothing(subject: Subject) -> None:
    token = await subject.contexts.begin_rebuild([ONE])
    await subject.sink.forget(ONE)
    await subject.sink.extend(ONE, LATER)
    await subject.contexts.finish_rebuild(token, {ONE: [QUESTION]})
    assert await subject.contexts.read([ONE]) == {}


async def test_an_overtaken_rebuild_publishes_nothing_and_the_later_one_does(subject: Subject) -> None:
    slow = await subject.contexts.begin_rebuild([ONE])
    await subject.sink.forget(ONE)
    await subject.sink.extend(ONE, ANSWER)
    quick = await subject.contexts.begin_rebuild([ONE])
    await subject.contexts.finish_rebuild(slow, {ONE: [QUESTION]})
    before = await subject.contexts.read([ONE])
    await subject.contexts.finish_rebuild(quick, {ONE: [QUESTION, ANSWER]})
    assert before == {}
    assert await subject.contexts.read([ONE]) == {ONE: [QUESTION, ANSWER]}


@pytest.mark.integration
async def test_contexts_expire(redis_socket: Path) -> None:
    async with flushed_redis(redis_socket) as client:
        contexts = RedisContexts(client, SETTINGS)
        token = await contexts.begin_rebuild([ONE])
        life_of_rebuild_ms = await client.pttl(hot_context(ONE))
        await contexts.finish_rebuild(token, {ONE: [QUESTION]})
        life_of_whole_ms = await client.pttl(hot_context(ONE))
    assert 0 < life_of_rebuild_ms <= SETTINGS.rebuild_ttl_s * 1_000
    assert SETTINGS.rebuild_ttl_s * 1_000 < life_of_whole_ms <= SETTINGS.context_ttl_s * 1_000


@pytest.mark.integration
async def test_a_context_above_the_limit_is_not_kept(redis_socket: Path) -> None:
    async with flushed_redis(redis_socket) as client:
        contexts = RedisContexts(client, SETTINGS.model_copy(update={"context_bytes_max": 300}))
        token = await contexts.begin_rebuild([ONE, TWO])
        await contexts.finish_rebuild(token, {ONE: [stored(10, user("x" * 300))], TWO: [QUESTION]})
        assert await contexts.read([ONE, TWO]) == {TWO: [QUESTION]}


@pytest.mark.integration
async def test_a_context_that_cannot_be_decoded_counts_as_absent(redis_socket: Path) -> None:
    async with flushed_redis(redis_socket) as client:
        await client.hset(hot_context(ONE), mapping={COMPLETE_FIELD: "1", field_of(10): "{not a message"})
        assert await RedisContexts(client, SETTINGS).read([ONE]) == {}


@pytest.mark.integration
async def test_a_key_of_another_type_is_retryable_and_names_no_content(redis_socket: Path) -> None:
    async with flushed_redis(redis_socket) as client:
        await client.set(hot_context(ONE), "secret words")
        with pytest.raises(Retryable) as failure:
            await RedisContexts(client, SETTINGS).read([ONE])
    assert str(failure.value) == "redis: ResponseError"
