"""The edge process: HTTP in through ``producers.ingest``, answers out through ``consumers.sse``."""

import asyncio
import os
import secrets
import time
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp

from consumers.sse.live_turns import LiveTurns
from consumers.sse.stage import Answers
from producers.app import make_app
from producers.ingest.admission import Admission
from producers.ingest.ports import IngestPorts
from schemas.cursors import cursor_key
from schemas.ports import LogReader, LogTail, Producer, TopicPartition, WritingCql
from schemas.topics import TOKENS
from stream_processors.auth.cassandra_conversations import CassandraConversations
from stream_processors.moderation.toml_rules import load_policy
from turnstream.clocks import now_ms
from turnstream.http_server import open_listener, serve
from turnstream.log.account_changes import CHANGES_FOLLOWED, AccountChangeListener
from turnstream.log.kafka_log_reader import KafkaLogReader
from turnstream.log.kafka_log_tail import KafkaLogTail
from turnstream.log.kafka_producer import KafkaProducer
from turnstream.log.turn_lookup import LogTurnLookup
from turnstream.settings import Settings
from turnstream.stores.cassandra import open_session
from turnstream.stores.message_pages import CassandraMessagePages
from turnstream.stores.stored_answers import CassandraStoredAnswers
from turnstream.stores.turn_claims import CassandraTurnClaims
from turnstream.stores.usage_rows import CassandraUsageRows
from turnstream.telemetry.probe_app import ProbeApp
from turnstream.wiring.accounts import accounts_api
from turnstream.wiring.conversation_stores import conversation_stores
from turnstream.wiring.process import Process
from turnstream.wiring.redis_client import open_redis
from turnstream.wiring.topics import require_all_topics


async def run_edge(process: Process) -> None:
    """Serve clients until asked to stop, then drain."""
    settings = process.settings
    await require_all_topics(settings)
    home = _home_partitions(settings)
    async with AsyncExitStack() as open_ports:
        producer = await open_ports.enter_async_context(KafkaProducer(settings.kafka))
        log = await open_ports.enter_async_context(KafkaLogReader(settings.kafka))
        followed = [TopicPartition(TOKENS.name, partition) for partition in home]
        tail = await open_ports.enter_async_context(KafkaLogTail(settings.kafka, followed))
        # Before anything is cached: no change is missed.
        changes = await open_ports.enter_async_context(KafkaLogTail(settings.kafka, CHANGES_FOLLOWED))
        cql = await open_ports.enter_async_context(open_session(settings.cassandra))
        turns = _live_turns(process, tail, log, producer, home)
        process.metrics.count("turnstream_unterminated_turns_total", 0, seen_by="edge")
        admission = Admission(settings.ingest, process.metrics, time.monotonic)
        answers = Answers(
            turns,
            producer,
            settings.sse,
            cursor_key=cursor_key(settings.pepper_bytes),
            on_started=admission.started,
            chance=secrets.SystemRandom().random,
            now_ms=now_ms,
        )
        ports = _ingest_ports(process, _Opened(producer, log, cql), turns, answers)
        ingest = settings.ingest.model_copy(update={"models": settings.models, "plans": settings.plans})
        accounts = accounts_api(settings, ingest, producer, cql)
        redis = await open_ports.enter_async_context(open_redis(settings.redis))
        app = make_app(
            ports,
            ingest,
            accounts=accounts,
            stores=conversation_stores(cql, redis, settings),
            conversation_settings=settings.conversations,
            pepper=settings.pepper_bytes,
            tokens_partitions=settings.topics.partitions_tokens or TOKENS.partitions,
            admission=admission,
            ready=turns.ready,
            metrics_page=ProbeApp(process.metrics, process.readiness),
        )
        listener = AccountChangeListener(changes, accounts.open_access.hear)
        await _serve(process, app, answers, admission, (listener.run(), accounts.open_access.run()))


def _live_turns(process: Process, tail: LogTail, log: LogReader, producer: Producer, home: Sequence[int]) -> LiveTurns:
    turns = LiveTurns(
        tail,
        log,
        producer,
        home,
        edge_id=f"{os.getpid()}-{secrets.token_hex(4)}",
        settings=process.settings.sse,
        metrics=process.metrics,
        entropy=secrets.token_bytes,
    )
    process.readiness.require("tokens:read_back", turns.ready)
    return turns


@dataclass(frozen=True, slots=True)
class _Opened:
    producer: Producer
    log: LogReader
    cql: WritingCql


def _ingest_ports(process: Process, opened: _Opened, turns: LiveTurns, answers: Answers) -> IngestPorts:
    cql, settings = opened.cql, process.settings
    return IngestPorts(
        producer=opened.producer,
        readers=turns,
        states=turns,
        lookup=LogTurnLookup(opened.log, settings.lookup),
        answerer=answers,
        canceller=answers,
        claims=CassandraTurnClaims(cql),
        stored=CassandraStoredAnswers(cql),
        conversations=CassandraConversations(cql, settings.auth.statements_in_flight_max),
        pages=CassandraMessagePages(cql),
        policy=load_policy(settings.moderation),
        usage=CassandraUsageRows(cql),
        metrics=process.metrics,
        now_ms=now_ms,
        monotonic_s=time.monotonic,
        entropy=secrets.token_bytes,
    )


async def _serve(
    process: Process,
    app: ASGIApp,
    answers: Answers,
    admission: Admission,
    beside: Sequence[Coroutine[Any, Any, None]],
) -> None:
    settings = process.settings

    async def drain() -> None:
        admission.close()
        await answers.drain(settings.edge.drain_seconds_max)

    async with asyncio.TaskGroup() as tasks:
        following = [tasks.create_task(work) for work in (answers.run(), *beside)]
        await serve(app, open_listener(settings.edge), settings.edge, process.stop, drain)
        for task in following:
            task.cancel()


def _home_partitions(settings: Settings) -> tuple[int, ...]:
    if settings.edge.home_partitions:
        return settings.edge.home_partitions
    count = settings.topics.partitions_tokens or TOKENS.partitions
    chosen = secrets.SystemRandom().sample(range(count), min(settings.edge.home_partitions_max, count))
    return tuple(sorted(chosen))
