"""The stateless processors: the rows of the topology, each in the one consume loop."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final

from redis.asyncio import Redis

from consumers.loop import run_batches
from consumers.work import BatchWork
from schemas.errors import Fatal
from schemas.ports import BatchProcess, Cql, LogReader
from schemas.topics import ABUSE_SIGNALS
from stream_processors import topology
from stream_processors.auth.caching import CachedAccounts, CachedConversations
from stream_processors.auth.cassandra_accounts import CassandraAccounts
from stream_processors.auth.cassandra_conversations import CassandraConversations
from stream_processors.auth.running_turns import RunningTurns
from stream_processors.auth.stage import Authorize
from stream_processors.auth.standings import Standings
from stream_processors.fusion import fed_here, fuse
from stream_processors.moderation.stage import Moderate
from stream_processors.moderation.toml_rules import load_policy
from stream_processors.prompt.cassandra_history import CassandraHistory
from stream_processors.prompt.guarded_contexts import GuardedContexts
from stream_processors.prompt.redis_context import RedisContexts
from stream_processors.prompt.stage import BuildPrompts
from stream_processors.prompt.tokenizers_counter import load_counter
from stream_processors.rate_limit.fallback_quota import FallbackQuota
from stream_processors.rate_limit.redis_quota import RedisQuota
from stream_processors.rate_limit.stage import Admit, Settle
from stream_processors.topology import StageRow
from turnstream.clocks import now_ms
from turnstream.log.abuse_signals import AbuseSignalListener, signal_partitions
from turnstream.log.account_changes import CHANGES_FOLLOWED, AccountChangeListener, Hear
from turnstream.log.haste import Haste
from turnstream.log.kafka_group_consumer import KafkaGroupConsumer
from turnstream.log.kafka_log_reader import KafkaLogReader
from turnstream.log.kafka_log_tail import KafkaLogTail
from turnstream.log.kafka_producer import KafkaProducer
from turnstream.log.turn_lookup import LogTurnLookup
from turnstream.stores.active_turns import CassandraActiveTurns
from turnstream.stores.breaking_cql import BreakingCql
from turnstream.stores.cassandra import open_session
from turnstream.wiring.loop_readiness import require_loop
from turnstream.wiring.process import Process
from turnstream.wiring.redis_client import open_redis
from turnstream.wiring.topics import planned_topics, require_all_topics


@dataclass(frozen=True, slots=True)
class _Parts:
    process: Process
    cql: Cql
    redis: Redis
    log: LogReader
    standings: Standings
    hear: list[Hear]
    beside: list[Callable[[], Coroutine[Any, Any, None]]]


def _auth(parts: _Parts) -> BatchProcess:
    settings = parts.process.settings
    auth = settings.auth
    directory = CassandraAccounts(parts.cql, auth.statements_in_flight_max)
    accounts = CachedAccounts(directory, auth, time.monotonic)
    parts.hear.append(accounts.hear)
    parts.beside.append(accounts.keep_fresh)
    conversations = CassandraConversations(parts.cql, auth.statements_in_flight_max)
    return Authorize(
        auth,
        settings.models,
        settings.plans,
        accounts=accounts,
        conversations=CachedConversations(conversations, auth, time.monotonic),
        running=RunningTurns(CassandraActiveTurns(parts.cql), LogTurnLookup(parts.log, settings.lookup), auth, now_ms),
        standings=parts.standings,
        metrics=parts.process.metrics,
    )


def _rate_limit(parts: _Parts) -> BatchProcess:
    settings, metrics = parts.process.settings, parts.process.metrics
    limits, plans = settings.rate_limit, settings.plans
    quota = FallbackQuota(RedisQuota(parts.redis, limits, plans), limits, plans, metrics, time.monotonic)
    return Admit(limits, plans, quota, metrics, now_ms)


def _settle(parts: _Parts) -> BatchProcess:
    settings, metrics = parts.process.settings, parts.process.metrics
    quota = RedisQuota(parts.redis, settings.rate_limit, settings.plans)
    return Settle(settings.rate_limit, quota, metrics, now_ms)


def _prompt(parts: _Parts) -> BatchProcess:
    settings, metrics = parts.process.settings, parts.process.metrics
    contexts = RedisContexts(parts.redis, settings.prompt)
    return BuildPrompts(
        settings.prompt,
        settings.models,
        settings.plans,
        contexts=GuardedContexts(contexts, settings.prompt.redis_retry_s, metrics, time.monotonic),
        history=CassandraHistory(parts.cql, settings.prompt.statements_in_flight_max),
        count=load_counter(settings.prompt.tokenizer_file),
        metrics=metrics,
        region=settings.region,
    )


def _moderation(parts: _Parts) -> BatchProcess:
    settings = parts.process.settings
    return Moderate(load_policy(settings.moderation), parts.process.metrics, now_ms, settings.region)


_MAKERS: Final[Mapping[StageRow, Callable[[_Parts], BatchProcess]]] = {
    topology.AUTH: _auth,
    topology.RATE_LIMIT: _rate_limit,
    topology.RATE_LIMIT_SETTLE: _settle,
    topology.PROMPT: _prompt,
    topology.MODERATION: _moderation,
}


def choose_rows(names: Sequence[str]) -> tuple[StageRow, ...]:
    """The rows with these names, or all. Raises Fatal for a name that no row has."""
    unknown = sorted(set(names) - {row.name for row in topology.ROWS})
    if unknown:
        raise Fatal(f"no such stage: {', '.join(unknown)}; there are {', '.join(row.name for row in topology.ROWS)}")
    return tuple(row for row in topology.ROWS if not names or row.name in names)


async def run_processors(process: Process, rows: Sequence[StageRow]) -> None:
    """Run the chosen stages side by side until asked to stop."""
    settings = process.settings
    await require_all_topics(settings)
    async with AsyncExitStack() as open_ports:
        producer = await open_ports.enter_async_context(KafkaProducer(settings.kafka))
        cql = await open_ports.enter_async_context(open_session(settings.cassandra))
        redis = await open_ports.enter_async_context(open_redis(settings.redis))
        log = await open_ports.enter_async_context(KafkaLogReader(settings.kafka))
        # Before anything is cached: no change is missed.
        changes = await open_ports.enter_async_context(KafkaLogTail(settings.kafka, CHANGES_FOLLOWED))
        standings = Standings(settings.auth.standings_max)
        guarded = BreakingCql(cql, settings.auth.store_retry_s, time.monotonic)
        parts = _Parts(process, guarded, redis, log, standings, [], [])
        processes: Mapping[StageRow, BatchProcess] = {row: _MAKERS[row](parts) for row in rows}
        # Nobody waits for a settlement, nor for records that were carried on before they were written.
        patient = {topology.RATE_LIMIT_SETTLE}
        if settings.loops.fuse:
            processes = fuse(processes)
            patient |= fed_here(rows)
        members = [
            KafkaGroupConsumer(
                settings.kafka, row.group, (row.source.name,), haste=Haste.LAZY if row in patient else Haste.AT_ONCE
            )
            for row in rows
        ]
        await asyncio.gather(*(open_ports.enter_async_context(member) for member in members))
        works = [
            BatchWork(
                stage=row.name,
                source=row.source,
                consumer=member,
                producer=producer,
                metrics=process.metrics,
                process=processes[row],
                settings=settings.loops.processors,
                region=settings.region,
            )
            for row, member in zip(rows, members, strict=True)
        ]
        for row, member in zip(rows, members, strict=True):
            require_loop(process, row.name, member)
        beside = [AccountChangeListener(changes, *parts.hear).run(), *(start() for start in parts.beside)]
        if topology.AUTH in rows:
            beside.append(await _hear_signals(process, open_ports, parts))
        await _run_until_stopped(works, beside, process.stop)


async def _hear_signals(process: Process, open_ports: AsyncExitStack, parts: _Parts) -> Coroutine[Any, Any, None]:
    """Learn who stands on the ladder; what is returned follows the changes."""
    settings = process.settings
    plans = {plan.name: plan for plan in planned_topics(settings)}
    followed = signal_partitions(plans[ABUSE_SIGNALS.name].partitions)
    tail = await open_ports.enter_async_context(KafkaLogTail(settings.kafka, followed))
    listener = AbuseSignalListener(tail, followed, parts.standings.hear, process.metrics)
    await listener.read_back(parts.log, settings.auth.standings_seconds_max)
    return listener.run()


async def _run_until_stopped(
    works: Sequence[BatchWork], beside: Sequence[Coroutine[Any, Any, None]], stop: asyncio.Event
) -> None:
    async with asyncio.TaskGroup() as listeners:
        listening = [listeners.create_task(listener) for listener in beside]
        async with asyncio.TaskGroup() as tasks:
            for work in works:
                tasks.create_task(run_batches(work, stop))
        for task in listening:
            task.cancel()
