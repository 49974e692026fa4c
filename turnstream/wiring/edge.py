"""The edge process: HTTP in through ``producers.ingest``, answers out through ``consumers.sse``."""

import asyncio
import os
import secrets
import time
from contextlib import AsyncExitStack

from consumers.sse.live_turns import LiveTurns
from consumers.sse.stage import Answers
from producers.app import make_app
from producers.ingest.admission import Admission
from producers.ingest.ports import IngestPorts
from schemas.cursors import cursor_key
from schemas.ports import TopicPartition
from schemas.topics import TOKENS
from stream_processors.auth.cassandra_accounts import CassandraAccounts
from stream_processors.auth.cassandra_conversations import CassandraConversations
from stream_processors.moderation.toml_rules import load_policy
from turnstream.clocks import now_ms
from turnstream.http_server import open_listener, serve
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
from turnstream.wiring.process import Process
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
        cql = await open_ports.enter_async_context(open_session(settings.cassandra))
        turns = LiveTurns(
            tail,
            log,
            producer,
            home,
            edge_id=f"{os.getpid()}-{secrets.token_hex(4)}",
            settings=settings.sse,
            metrics=process.metrics,
            entropy=secrets.token_bytes,
        )
        admission = Admission(settings.ingest, process.metrics, time.monotonic)
        answers = Answers(
            turns,
            producer,
            settings.sse,
            cursor_key=cursor_key(settings.pepper_bytes),
            on_started=admission.started,
            chance=secrets.SystemRandom().random,
        )
        ports = IngestPorts(
            producer=producer,
            readers=turns,
            states=turns,
            lookup=LogTurnLookup(log, settings.lookup),
            answerer=answers,
            canceller=answers,
            claims=CassandraTurnClaims(cql),
            stored=CassandraStoredAnswers(cql),
            accounts=CassandraAccounts(cql, settings.auth.statements_in_flight_max),
            conversations=CassandraConversations(cql, settings.auth.statements_in_flight_max),
            pages=CassandraMessagePages(cql),
            policy=load_policy(settings.moderation),
            usage=CassandraUsageRows(cql),
            metrics=process.metrics,
            now_ms=now_ms,
            monotonic_s=time.monotonic,
            entropy=secrets.token_bytes,
        )
        await _serve(process, ports, turns, answers, admission)


async def _serve(
    process: Process, ports: IngestPorts, turns: LiveTurns, answers: Answers, admission: Admission
) -> None:
    settings = process.settings
    app = make_app(
        ports,
        settings.ingest.model_copy(update={"models": settings.models, "plans": settings.plans}),
        pepper=settings.pepper_bytes,
        tokens_partitions=settings.topics.partitions_tokens or TOKENS.partitions,
        admission=admission,
        ready=turns.ready,
        metrics_page=ProbeApp(process.metrics, process.readiness),
    )
    process.readiness.require("tokens:read_back", turns.ready)

    async def drain() -> None:
        admission.close()
        await answers.drain(settings.edge.drain_seconds_max)

    async with asyncio.TaskGroup() as tasks:
        following = tasks.create_task(answers.run())
        await serve(app, open_listener(settings.edge), settings.edge, process.stop, drain)
        following.cancel()


def _home_partitions(settings: Settings) -> tuple[int, ...]:
    if settings.edge.home_partitions:
        return settings.edge.home_partitions
    count = settings.topics.partitions_tokens or TOKENS.partitions
    chosen = secrets.SystemRandom().sample(range(count), min(settings.edge.home_partitions_max, count))
    return tuple(sorted(chosen))
