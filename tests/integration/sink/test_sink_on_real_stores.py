"""The sink on a real Cassandra and a real Redis, over a log in memory."""

import asyncio
import os
import secrets
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from redis.asyncio import Redis

from consumers.cassandra_sink.core import CassandraSinkSettings
from consumers.cassandra_sink.stage import PersistAnswers, persist_answers
from schemas.errors import Retryable
from schemas.hot_context import COMPLETE_FIELD, COMPLETE_VALUE
from schemas.redis_keys import hot_context
from schemas.tokens import Persisted
from tests.support.answer_records import (
    PARTITION,
    AnswerRecords,
    CountedMetrics,
    answer,
    cleared,
    delta,
    fence,
    finished,
)
from tests.support.real_servers import real_servers
from tests.unit.sink.sink_world import RecordsReader
from turnstream.local_stack.stack import Stack
from turnstream.stores.active_turns import CassandraActiveTurns
from turnstream.stores.cassandra import CassandraSession, CassandraSettings, open_session
from turnstream.stores.message_pages import CassandraMessagePages
from turnstream.stores.tables import create_tables

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with real_servers(tmp_path_factory.mktemp("sink"), "cassandra", "redis") as stack:
        yield stack


@pytest.fixture(scope="module")
def settings(servers: Stack) -> CassandraSettings:
    assert servers.endpoints.cassandra is not None
    host, port = servers.endpoints.cassandra
    made = CassandraSettings(contact_points=(host,), port=port)
    asyncio.run(create_tables(made))
    asyncio.run(create_tables(made))
    return made


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@dataclass
class Real:
    """A sink on real stores over a log in memory."""

    cql: CassandraSession
    redis: Redis
    log: AnswerRecords
    sink: PersistAnswers
    conversation: str

    async def take_all(self) -> None:
        await self.sink.write(self.log.between(0, len(self.log.records)))

    async def history(self) -> list[tuple[str, bool]]:
        pages = CassandraMessagePages(self.cql)
        found = await pages.page(self.conversation, 101, None, newest_first=False)
        return [(stored.message.content.text, stored.complete) for stored in found]

    async def warm(self) -> None:
        await self.redis.hset(hot_context(self.conversation), COMPLETE_FIELD, COMPLETE_VALUE)


@pytest.fixture
async def real(servers: Stack, settings: CassandraSettings) -> AsyncIterator[Real]:
    redis = Redis.from_url(str(servers.endpoints.redis_url), socket_timeout=1, socket_connect_timeout=1)
    log = AnswerRecords()
    async with open_session(settings) as cql:
        sink = persist_answers(
            cql=cql,
            redis=redis,
            active=CassandraActiveTurns(cql),
            log=RecordsReader(log),
            producer=log,
            metrics=CountedMetrics(),
            settings=CassandraSinkSettings(),
            now_ms=lambda: log.now_ms,
        )
        yield Real(cql, redis, log, sink, f"conv_{secrets.token_hex(8)}")
    await redis.aclose()


async def test_an_answer_is_in_history_and_context_before_persisted(real: Real) -> None:
    await real.warm()
    real.log.add(*answer(1, "Hel", "lo", conversation=real.conversation))
    await real.take_all()
    assert await real.history() == [("question 1.0", True), ("Hello", True)]
    assert await real.redis.hlen(hot_context(real.conversation)) == 3
    assert 0 < await real.redis.ttl(hot_context(real.conversation)) <= CassandraSinkSettings().context_ttl_s
    assert [type(event) for event in real.log.appended] == [Persisted]


async def test_a_turn_read_twice_is_stored_once(real: Real) -> None:
    real.log.add(cleared(1, conversation=real.conversation), fence(1), delta(1, 0, "x"))
    await real.take_all()
    assert await real.history() == [("question 1.0", False), ("x", False)]
    real.log.add(finished(1, 1))
    real.sink.forget(frozenset((PARTITION,)))
    await real.take_all()
    assert await real.history() == [("question 1.0", True), ("x", True)]
    real.sink.forget(frozenset((PARTITION,)))
    real.log.add(cleared(1, conversation=real.conversation))
    await real.take_all()
    assert await real.history() == [("question 1.0", True), ("x", True)]


async def test_a_redis_that_does_not_answer_leaves_a_debt_and_the_answer_persisted(real: Real) -> None:
    nobody = Redis(host="127.0.0.1", port=1, socket_connect_timeout=1)
    sink = persist_answers(
        cql=real.cql,
        redis=nobody,
        active=CassandraActiveTurns(real.cql),
        log=RecordsReader(real.log),
        producer=real.log,
        metrics=CountedMetrics(),
        settings=CassandraSinkSettings(),
        now_ms=lambda: 0,
    )
    real.log.add(*answer(1, "x", conversation=real.conversation))
    await sink.write(real.log.between(0, 4))
    assert len(real.log.appended) == 1
    assert sink.safe_position(PARTITION, 4) == 0
    with pytest.raises(Retryable):
        await sink.repay_contexts()
    await nobody.aclose()


async def test_a_redis_that_stands_still_is_given_up_and_leaves_nothing_in_the_connection(
    real: Real, servers: Stack
) -> None:
    await real.warm()
    pid = servers.part("redis").pid
    assert pid is not None
    real.log.add(*answer(1, "x", conversation=real.conversation))
    with stopped(pid):
        await real.take_all()
    assert len(real.log.appended) == 1
    await real.sink.repay_contexts()
    assert await real.redis.get(f"absent:{real.conversation}") is None
    assert not await real.redis.exists(hot_context(real.conversation))
    assert real.sink.safe_position(PARTITION, 4) == 4


async def test_a_cassandra_that_stands_still_is_retryable_and_then_goes_on(real: Real, servers: Stack) -> None:
    real.log.add(*answer(1, "x", conversation=real.conversation))
    pid = servers.part("cassandra").pid
    assert pid is not None
    with stopped(pid), pytest.raises(Retryable):
        await real.take_all()
    assert real.log.appended == []
    await eventually_stored(real)
    assert await real.history() == [("question 1.0", True), ("x", True)]
    assert len(real.log.appended) == 1


async def eventually_stored(real: Real) -> None:
    deadline_s = time.monotonic() + 30
    while True:
        try:
            return await real.sink.write(real.log.between(0, 4))
        except Retryable:
            assert time.monotonic() < deadline_s
