"""The whole chain of processors while a real Redis or a real Cassandra is dead or hangs: it decides, and soon."""

import asyncio
import os
import secrets
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from redis.asyncio import Redis

from producers.accounts.ports import ApiKeyRow
from schemas.events import InferenceRequested, Turn
from schemas.models import DEFAULT_CATALOGUE
from schemas.plans import DEFAULT_PLANS
from schemas.ports import BatchProcess, Cql
from schemas.redis_keys import quota_reservation
from schemas.tokens import Refused
from schemas.topics import TURNS_SUBMITTED
from stream_processors.auth.caching import CachedAccounts, CachedConversations
from stream_processors.auth.cassandra_accounts import CassandraAccounts
from stream_processors.auth.cassandra_conversations import CassandraConversations
from stream_processors.auth.core import AuthSettings
from stream_processors.auth.running_turns import RunningTurns
from stream_processors.auth.stage import Authorize
from stream_processors.auth.standings import Standings
from stream_processors.fusion import fuse
from stream_processors.moderation.core import ModerationSettings
from stream_processors.moderation.stage import Moderate
from stream_processors.moderation.toml_rules import load_policy
from stream_processors.prompt.cassandra_history import CassandraHistory
from stream_processors.prompt.core import PromptSettings
from stream_processors.prompt.guarded_contexts import GuardedContexts
from stream_processors.prompt.redis_context import RedisContexts
from stream_processors.prompt.stage import BuildPrompts
from stream_processors.rate_limit.core import RateLimitSettings
from stream_processors.rate_limit.fallback_quota import FallbackQuota
from stream_processors.rate_limit.redis_quota import RedisQuota
from stream_processors.rate_limit.stage import Admit
from stream_processors.token_counts import estimate_tokens
from stream_processors.topology import AUTH, MODERATION, PROMPT, RATE_LIMIT
from tests.support.full_stack import eventually
from tests.support.memory_stores import MemoryTurnLookup
from tests.support.redis_server import running_redis
from tests.support.turn_events import NOW_MS, CountedMetrics, conversation_id, received, submitted, turn
from turnstream.local_stack.stack import Stack
from turnstream.stores.active_turns import CassandraActiveTurns
from turnstream.stores.api_keys import create_key_row
from turnstream.stores.breaking_cql import BreakingCql
from turnstream.stores.cassandra import CassandraSettings, open_session

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]
# The edge waits 30 s for a decision.
DECIDED_SECONDS_MAX: Final = 5.0
RECOVERED_SECONDS_MAX: Final = 20.0
RETRY_S: Final = 0.5
ANSWERED: Final = "answered"


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """The process stands still until the block ends."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def chain(cql: Cql, redis: Redis, metrics: CountedMetrics, now_ms: Callable[[], int]) -> BatchProcess:
    """The four stages as the composition root makes them, in one go; the log of answers is empty."""
    auth, quotas = AuthSettings(key_cache_s=0, store_retry_s=RETRY_S), RateLimitSettings(redis_retry_s=RETRY_S)
    prompt, cql = PromptSettings(redis_retry_s=RETRY_S), BreakingCql(cql, auth.store_retry_s, time.monotonic)
    shared = RedisQuota(redis, quotas, DEFAULT_PLANS)
    quota = FallbackQuota(shared, quotas, DEFAULT_PLANS, metrics, time.monotonic)
    processes: dict[Any, BatchProcess] = {
        AUTH: Authorize(
            auth,
            DEFAULT_CATALOGUE,
            DEFAULT_PLANS,
            accounts=CachedAccounts(CassandraAccounts(cql, 16), auth, time.monotonic),
            conversations=CachedConversations(CassandraConversations(cql, 16), auth, time.monotonic),
            running=RunningTurns(CassandraActiveTurns(cql), MemoryTurnLookup(), auth, now_ms),
            standings=Standings(100),
            metrics=metrics,
        ),
        RATE_LIMIT: Admit(quotas, DEFAULT_PLANS, quota, metrics, now_ms),
        PROMPT: BuildPrompts(
            prompt,
            DEFAULT_CATALOGUE,
            DEFAULT_PLANS,
            contexts=GuardedContexts(RedisContexts(redis, prompt), prompt.redis_retry_s, metrics, time.monotonic),
            history=CassandraHistory(cql, 16),
            count=estimate_tokens,
            metrics=metrics,
        ),
        MODERATION: Moderate(load_policy(ModerationSettings()), metrics, now_ms),
    }
    return fuse(processes)[AUTH]


@dataclass
class Chain:
    """The processors over real stores, with the pids of these."""

    process: BatchProcess
    metrics: CountedMetrics
    redis: Redis
    redis_pid: int
    cassandra_pid: int
    key_hash: str
    turns: int = 0

    def next_turn(self, **changes: object) -> Turn:
        self.turns += 1
        # Ids of their own: all tests write into the same tables.
        number = int.from_bytes(secrets.token_bytes(7))
        return turn(number, conversation_id=conversation_id(number), **changes)

    async def verdicts(self, *turns: Turn) -> list[str]:
        """Per turn ``ANSWERED`` or the code of its refusal, in good time."""
        batch = [
            received(submitted(each, key_hash=self.key_hash), TURNS_SUBMITTED, offset)
            for offset, each in enumerate(turns)
        ]
        async with asyncio.timeout(DECIDED_SECONDS_MAX):
            outcomes = await self.process(batch)
        found = []
        for outcome in outcomes:
            assert isinstance(outcome, Sequence)
            refused = [emit.event.refusal for emit in outcome if isinstance(emit.event, Refused)]
            assert refused or any(isinstance(emit.event, InferenceRequested) for emit in outcome)
            found.append(str(refused[0].error.code) if refused else ANSWERED)
        return found

    async def eventually_answered(self, *turns: Turn) -> None:
        async def answered() -> bool:
            return await self.verdicts(*turns) == [ANSWERED] * len(turns)

        await eventually(answered, RECOVERED_SECONDS_MAX)


@asynccontextmanager
async def redis_at(socket: Path) -> AsyncIterator[tuple[Redis, int]]:
    async with Redis(unix_socket_path=str(socket)) as client:
        yield client, int((await client.info("server"))["process_id"])


@pytest.fixture
async def running(servers: Stack, settings: CassandraSettings) -> AsyncIterator[Chain]:
    cassandra_pid = servers.part("cassandra").pid
    assert cassandra_pid is not None
    key = ApiKeyRow(secrets.token_hex(32), secrets.token_hex(4), "acme", secrets.token_hex(4), "pro", "test", 1)
    metrics = CountedMetrics()
    with running_redis() as socket:
        async with redis_at(socket) as (redis, redis_pid), open_session(settings) as cql:
            await create_key_row(cql, key)
            process = chain(cql, redis, metrics, lambda: NOW_MS)
            yield Chain(process, metrics, redis, redis_pid, cassandra_pid, key.key_hash)


def failures(of: Chain, dependency: str) -> float:
    return of.metrics.counts.get(("turnstream_dependency_failures_total", f"dependency={dependency}"), 0)


async def test_without_redis_turns_are_answered(running: Chain) -> None:
    first = running.next_turn(stored=True)
    assert await running.verdicts(first) == [ANSWERED]
    os.kill(running.redis_pid, signal.SIGKILL)
    continued = running.next_turn(stored=True)
    assert await running.verdicts(running.next_turn(), continued) == [ANSWERED] * 2
    assert failures(running, "redis") > 0
    assert failures(running, "cassandra") == 0


async def test_a_redis_that_hangs_is_as_one_that_is_dead_and_is_asked_again(running: Chain) -> None:
    assert await running.verdicts(running.next_turn()) == [ANSWERED]
    with stopped(running.redis_pid):
        assert await running.verdicts(running.next_turn()) == [ANSWERED]
    assert failures(running, "redis") == 1

    async def reserved_again() -> bool:
        asking = running.next_turn()
        assert await running.verdicts(asking) == [ANSWERED]
        return bool(await running.redis.exists(quota_reservation("acme", asking.turn_id)))

    await eventually(reserved_again, RECOVERED_SECONDS_MAX)


async def test_without_cassandra_known_keys_go_on_and_stored_turns_can_be_retried(running: Chain) -> None:
    begun = running.next_turn(stored=True)
    assert await running.verdicts(begun) == [ANSWERED]
    stored = running.next_turn(stored=True)
    with stopped(running.cassandra_pid):
        assert await running.verdicts(running.next_turn(), stored) == [ANSWERED, "storage_unavailable"]
        # A moment later nobody waits for it.
        assert await running.verdicts(stored, running.next_turn()) == ["storage_unavailable", ANSWERED]
    assert failures(running, "cassandra") > 0
    await running.eventually_answered(running.next_turn(), stored)


async def test_without_either_the_chain_decides_in_time(running: Chain) -> None:
    assert await running.verdicts(running.next_turn()) == [ANSWERED]
    with stopped(running.cassandra_pid), stopped(running.redis_pid):
        assert await running.verdicts(running.next_turn(), running.next_turn(stored=True)) == [
            ANSWERED,
            "storage_unavailable",
        ]
    await running.eventually_answered(running.next_turn(stored=True))


async def test_a_conversation_has_one_running_turn_by_the_real_notes(running: Chain) -> None:
    first = running.next_turn(stored=True)
    second = running.next_turn(stored=True).model_copy(
        update={"conversation_id": first.conversation_id, "starts_conversation": False}
    )
    assert await running.verdicts(first) == [ANSWERED]
    assert await running.verdicts(second, first) == ["conversation_busy", ANSWERED]
