"""A shadow run: the stages of the live processes with ports that have no effect, on topics of the run's own."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from consumers.inference.cancel_listener import CancelListener
from consumers.inference.stage import InferTurn, make_backend
from schemas import serde, shadow
from schemas.bills import Billing
from schemas.errors import Fatal
from schemas.events import TurnAdmitted
from schemas.headers import REPLAY, SCHEMA, make_headers
from schemas.ports import BatchProcess, Cql, KeyedProcess, LogReader, Outgoing, PostingProducer, Producer
from schemas.shadow import ShadowBegan
from stream_processors import topology
from stream_processors.auth.caching import CachedAccounts
from stream_processors.auth.cassandra_accounts import CassandraAccounts
from stream_processors.auth.cassandra_conversations import CassandraConversations
from stream_processors.auth.running_turns import RunningTurns
from stream_processors.auth.stage import Authorize
from stream_processors.auth.standings import Standings
from stream_processors.moderation.stage import Moderate
from stream_processors.moderation.toml_rules import load_policy
from stream_processors.prompt.cassandra_history import CassandraHistory
from stream_processors.prompt.stage import BuildPrompts
from stream_processors.prompt.tokenizers_counter import load_counter
from stream_processors.rate_limit.stage import Admit
from stream_processors.topology import StageRow
from turnstream.clocks import now_ms
from turnstream.log.kafka_producer import KafkaProducer
from turnstream.log.kafka_topics import create_topics
from turnstream.log.turn_lookup import LogTurnLookup
from turnstream.settings import Settings
from turnstream.shadow.isolated_log import IsolatedProducer, IsolatedReader
from turnstream.shadow.pipeline import INFERENCE, ProcessFor, ShadowPorts, ShadowTurns, rows_between
from turnstream.shadow.plan import ShadowPlan
from turnstream.shadow.read_only import (
    HistoryBefore,
    NoHints,
    NoHotContexts,
    NoMetrics,
    NoRunningTurns,
    OpenQuota,
    ReadOnlyConversations,
)
from turnstream.shadow.reading import find_begun
from turnstream.stores.cassandra import open_session

_STORED: Final = frozenset((topology.AUTH, topology.PROMPT))
_OWNER_BYTES: Final = 8


@asynccontextmanager
async def open_shadow(plan: ShadowPlan, reader: LogReader) -> AsyncIterator[ShadowTurns]:
    """Make the topics of the run, unless they are there, and the stages. ``reader`` is of the live log.

    Nothing is opened through which anything but the run's topics could be written: no Redis, and of Cassandra only
    what reads. Raises Retryable, Fatal; ValueError for stages in the wrong order.
    """
    settings, began = plan.settings, plan.began
    rows = rows_between(began.from_stage, began.until_stage)
    await create_topics(settings.kafka, shadow.plan_shadow(began.run_id, settings.topics.replication))
    async with AsyncExitStack() as open_ports:
        producer = await open_ports.enter_async_context(KafkaProducer(settings.kafka))
        cql = None
        if not _STORED.isdisjoint(rows):
            cql = await open_ports.enter_async_context(open_session(settings.cassandra))
        isolated, own = IsolatedProducer(producer, began.run_id), IsolatedReader(reader, began.run_id)
        infer: Mapping[str, KeyedProcess] = {}
        if began.until_stage == INFERENCE:
            infer = await _inference(settings, isolated, own, open_ports)
        await _tell(producer, began)
        ports = ShadowPorts(
            rows=[(row, _MAKERS[row](_Parts(settings, cql, reader))) for row in rows],
            infer=infer,
            route=plan.route,
            producer=isolated,
            reader=own,
            now_ms=now_ms,
            in_flight_max=plan.in_flight_max,
        )
        yield ShadowTurns(ports, await find_begun(reader, began.run_id))


@dataclass(frozen=True, slots=True)
class _Parts:
    settings: Settings
    cql: Cql | None
    log: LogReader

    @property
    def store(self) -> Cql:
        if self.cql is None:
            raise Fatal("a stage asks a store that was not opened")
        return self.cql


def _auth(parts: _Parts) -> ProcessFor:
    settings, auth = parts.settings, parts.settings.auth
    authorize = Authorize(
        auth,
        settings.models,
        settings.plans,
        accounts=CachedAccounts(CassandraAccounts(parts.store, auth.statements_in_flight_max), auth, time.monotonic),
        conversations=ReadOnlyConversations(CassandraConversations(parts.store, auth.statements_in_flight_max)),
        running=RunningTurns(NoRunningTurns(), LogTurnLookup(parts.log, settings.lookup), auth, now_ms),
        # Nobody stands on the ladder: where users stood that day is not where they stand now.
        standings=Standings(1),
        metrics=NoMetrics(),
    )
    return lambda _event: authorize


def _rate_limit(parts: _Parts) -> ProcessFor:
    settings = parts.settings
    admit = Admit(settings.rate_limit, settings.plans, OpenQuota(settings.plans), NoMetrics(), now_ms)
    return lambda _event: admit


def _prompt(parts: _Parts) -> ProcessFor:
    settings = parts.settings
    history = CassandraHistory(parts.store, settings.prompt.statements_in_flight_max)
    count = load_counter(settings.prompt.tokenizer_file)

    def process_for(event: TurnAdmitted) -> BatchProcess:
        return BuildPrompts(
            settings.prompt,
            settings.models,
            settings.plans,
            contexts=NoHotContexts(),
            history=HistoryBefore(history, event.message_seq),
            count=count,
            metrics=NoMetrics(),
            region=settings.region,
        )

    return process_for


def _moderation(parts: _Parts) -> ProcessFor:
    moderate = Moderate(load_policy(parts.settings.moderation), NoMetrics(), now_ms, parts.settings.region)
    return lambda _event: moderate


_MAKERS: Final[Mapping[StageRow, Callable[[_Parts], ProcessFor]]] = {
    topology.AUTH: _auth,
    topology.RATE_LIMIT: _rate_limit,
    topology.PROMPT: _prompt,
    topology.MODERATION: _moderation,
}


async def _inference(
    settings: Settings, producer: PostingProducer, reader: LogReader, open_ports: AsyncExitStack
) -> Mapping[str, KeyedProcess]:
    policy, owner_id = load_policy(settings.moderation), secrets.token_hex(_OWNER_BYTES)
    infer: dict[str, KeyedProcess] = {}
    watches: list[asyncio.Task[None]] = []
    for pool, pool_settings in settings.pools.items():
        backend = make_backend(pool_settings)
        open_ports.push_async_callback(backend.close)
        watches.append(asyncio.create_task(backend.watch()))
        infer[pool] = InferTurn(
            producer=producer,
            reader=reader,
            backend=backend,
            policy=policy,
            metrics=NoMetrics(),
            cancels=CancelListener(NoHints()),
            now_ms=now_ms,
            owner_id=owner_id,
            settings=settings.inference,
            billing=Billing.of(settings.models, settings.region),
        )
    open_ports.push_async_callback(_end, watches)
    return infer


async def _end(watches: Sequence[asyncio.Task[Any]]) -> None:
    for watch in watches:
        watch.cancel()
    await asyncio.gather(*watches, return_exceptions=True)


async def _tell(producer: Producer, began: ShadowBegan) -> None:
    topic = shadow.manifest_topic(began.run_id)
    marks = make_headers(((SCHEMA, topic), (REPLAY, began.run_id)))
    await producer.append([Outgoing(topic, began.run_id.encode(), serde.encode(began), marks, 0)])
