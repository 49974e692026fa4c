"""The stores in memory and the real ones, behind one fixture per port."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest
from redis.asyncio import Redis

from consumers.cassandra_sink.cassandra_rows import CassandraRows
from consumers.cassandra_sink.core import CassandraSinkSettings
from consumers.cassandra_sink.ports import ConversationRows, HotContexts
from consumers.cassandra_sink.redis_contexts import RedisContexts
from producers.ingest.ports import MessagePages
from schemas.hot_context import COMPLETE_FIELD, COMPLETE_VALUE, decode_stored, encode_stored, field_of
from schemas.ports import StoredMessage
from schemas.redis_keys import hot_context
from tests.support.memory_stores import MemoryContexts, MemoryRows
from tests.support.real_servers import cassandra_with_tables, real_servers
from turnstream.local_stack.stack import Stack
from turnstream.stores.cassandra import CassandraSession, CassandraSettings, open_session
from turnstream.stores.message_pages import CassandraMessagePages

KINDS = (pytest.param("memory"), pytest.param("real", marks=[pytest.mark.integration, pytest.mark.timeout(120)]))
CONTEXT_MESSAGES_MAX = 4


@dataclass(frozen=True)
class Conversations:
    """Rows as the sink writes them, pages as the edge reads them."""

    rows: ConversationRows
    pages: MessagePages


class Contexts(HotContexts, Protocol):
    """Hot contexts with a look inside."""

    async def fill(self, conversation_id: str, messages: list[StoredMessage]) -> None: ...

    async def inside(self, conversation_id: str) -> list[StoredMessage] | None: ...


class InMemory(MemoryContexts):
    """The look into the fake."""

    async def fill(self, conversation_id: str, messages: list[StoredMessage]) -> None:
        self.warm(conversation_id, messages)

    async def inside(self, conversation_id: str) -> list[StoredMessage] | None:
        context = self.hot.get(conversation_id)
        return None if context is None else [context[seq] for seq in sorted(context)]


class InRedis(RedisContexts):
    """The look into Redis, as the prompt stage has it."""

    def __init__(self, redis: Redis) -> None:
        super().__init__(redis, CassandraSinkSettings(context_messages_max=CONTEXT_MESSAGES_MAX))
        self.redis = redis

    async def fill(self, conversation_id: str, messages: list[StoredMessage]) -> None:
        key = hot_context(conversation_id)
        await self.redis.hset(key, COMPLETE_FIELD, COMPLETE_VALUE)
        for one in messages:
            await self.redis.hset(key, field_of(one.message_seq), encode_stored(one))

    async def inside(self, conversation_id: str) -> list[StoredMessage] | None:
        fields = await self.redis.hgetall(hot_context(conversation_id))
        if fields.pop(COMPLETE_FIELD.encode(), None) is None:
            assert not fields
            return None
        values = [fields[field] for field in sorted(fields)]
        return [decode_stored(value) for value in values if isinstance(value, bytes)]


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    home: Path = tmp_path_factory.mktemp("stores")
    with real_servers(home, "cassandra", "redis") as stack:
        yield stack


@pytest.fixture(scope="session")
def cassandra_settings(servers: Stack) -> CassandraSettings:
    return cassandra_with_tables(servers)


@pytest.fixture
async def cassandra(cassandra_settings: CassandraSettings) -> AsyncIterator[CassandraSession]:
    async with open_session(cassandra_settings) as session:
        yield session


@pytest.fixture(params=KINDS)
async def conversations(request: pytest.FixtureRequest) -> AsyncIterator[Conversations]:
    if request.param == "memory":
        memory = MemoryRows()
        yield Conversations(memory, memory)
        return
    async with open_session(request.getfixturevalue("cassandra_settings")) as session:
        yield Conversations(CassandraRows(session), CassandraMessagePages(session))


@pytest.fixture(params=KINDS)
async def contexts(request: pytest.FixtureRequest) -> AsyncIterator[Contexts]:
    if request.param == "memory":
        yield InMemory(messages_max=CONTEXT_MESSAGES_MAX)
        return
    redis = Redis.from_url(request.getfixturevalue("servers").endpoints.redis_url, socket_timeout=2)
    try:
        yield InRedis(redis)
    finally:
        await redis.aclose()
