"""The ``Cql`` port on cassandra-driver: an asyncio face on a driver that answers from its own thread.

Every statement of ours is a read or an upsert with an explicit timestamp, so repeating one is always safe; this is
why requests that got no answer are simply made again, a bounded number of times.
"""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from typing import Any, Final, Literal

import structlog
from cassandra import ConsistencyLevel
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, Session
from cassandra.policies import (
    ConstantReconnectionPolicy,
    DCAwareRoundRobinPolicy,
    FallthroughRetryPolicy,
    TokenAwarePolicy,
)
from cassandra.query import UNSET_VALUE, BatchStatement, BatchType, PreparedStatement, SimpleStatement, Statement
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from schemas.at_once import at_once
from schemas.errors import Fatal, Retryable
from schemas.ports import Upsert
from turnstream.stores.cassandra_failures import DRIVER_ERRORS, translated

_log: Final = structlog.get_logger(__name__)

_KEYSPACE_PER_STATEMENT: Final = 5

# Queries, each with the values of its markers.
_Request = Sequence[tuple[str, Sequence[object]]]


class CassandraSettings(BaseModel):
    """Where Cassandra is and how long we wait for it."""

    model_config = ConfigDict(frozen=True)

    contact_points: tuple[str, ...] = Field(default=("127.0.0.1",), min_length=1)
    port: int = Field(default=19042, ge=1, le=65535)
    keyspace: str = Field(default="turnstream", pattern="^[a-z][a-z0-9_]{0,47}$")
    local_dc: str = Field(default="datacenter1", pattern="^[A-Za-z0-9_-]+$")
    replication_factor: int = Field(default=1, ge=1, description="Replicas in ``local_dc``, for `bootstrap`.")
    username: str | None = None
    password: SecretStr | None = None
    protocol_version: int = Field(default=5, ge=4, le=5)
    consistency: Literal["LOCAL_QUORUM", "LOCAL_ONE", "QUORUM"] = Field(
        default="LOCAL_QUORUM", description="For reads and writes alike: a read then sees every acknowledged write."
    )
    connect_seconds_max: float = Field(default=20.0, gt=0, description="For the first connection of a process.")
    handshake_seconds_max: float = Field(default=5.0, gt=0, description="For any connection to one node.")
    reconnect_seconds: float = Field(
        default=0.5, gt=0, description="Between two attempts to reach a node that is down."
    )
    heartbeat_seconds: int = Field(
        default=10, ge=1, description="An idle connection is asked whether it lives; silence as long again says no."
    )
    answer_seconds_max: float = Field(
        default=2.0, gt=0, description="For one statement, over all attempts; then the caller decides what to do."
    )
    request_seconds_max: float = Field(default=0.9, gt=0, description="For one attempt: there is time for a second.")
    attempts_max: int = Field(default=3, ge=1)
    retry_delay_ms: int = Field(default=50, ge=0, description="Before the second attempt; doubled for each further.")
    requests_in_flight_max: int = Field(default=256, ge=1)
    batch_rows_max: int = Field(
        default=8, ge=1, description="Of one partition in one request; a row may be as large as an answer."
    )
    statements_max: int = Field(default=128, ge=1, description="Distinct queries; more means that one is built.")
    schema_seconds_max: float = Field(default=30.0, gt=0, description="For one statement that changes the schema.")


class CassandraSession:
    """Executes CQL without blocking the event loop. Make one with ``open_session``."""

    def __init__(self, session: Session, settings: CassandraSettings) -> None:
        self._session = session
        self._settings = settings
        # Protocol 5 names the keyspace with each statement, so none rests on what a connection has in USE.
        self._keyspace = settings.keyspace if _names_keyspace(settings) else None
        self._slots = asyncio.Semaphore(settings.requests_in_flight_max)
        self._statements: dict[str, PreparedStatement] = {}
        self._preparing = asyncio.Lock()

    async def execute(self, query: str, values: Sequence[object] = ()) -> Sequence[Any]:
        """The rows (named tuples) of ``query``, a constant with ``?`` markers. None leaves a column as it is.

        Only for statements that may be repeated. Raises Retryable when no replica set answered after ``attempts_max``
        attempts or within ``answer_seconds_max``, Fatal when the server rejects the query, TypeError or ValueError
        when the values do not fit it.
        """
        return await self._request(((query, values),))

    async def write(self, upserts: Sequence[Upsert]) -> None:
        """As ``WritingCql.write``, ``batch_rows_max`` rows in a request. Otherwise as ``execute``."""
        rows_of: dict[tuple[object, ...], list[tuple[str, Sequence[object]]]] = {}
        for partition, query, values in upserts:
            rows_of.setdefault(partition, []).append((query, values))
        size = self._settings.batch_rows_max
        await at_once(
            self._request(rows[first : first + size])
            for rows in rows_of.values()
            for first in range(0, len(rows), size)
        )

    async def _request(self, request: _Request) -> Sequence[Any]:
        bound = [(query, [UNSET_VALUE if value is None else value for value in values]) for query, values in request]
        try:
            async with asyncio.timeout(self._settings.answer_seconds_max):
                return await self._insist(bound)
        except TimeoutError as error:
            raise translated(error, bound[0][0]) from error

    async def _insist(self, request: _Request) -> Sequence[Any]:
        delay_s = self._settings.retry_delay_ms / 1000
        for attempt in range(1, self._settings.attempts_max + 1):
            try:
                return await self._attempt(request)
            except Retryable:
                if attempt == self._settings.attempts_max:
                    raise
                await asyncio.sleep(delay_s * 2 ** (attempt - 1))
        raise AssertionError("unreachable: attempts_max is at least 1")

    async def change_schema(self, statement: str) -> None:
        """Run one DDL statement and wait until the nodes agree on it. Raises Retryable or Fatal."""
        simple = SimpleStatement(statement)
        run = partial(self._session.execute, simple, timeout=self._settings.schema_seconds_max)
        try:
            await asyncio.to_thread(run)
        except DRIVER_ERRORS as error:
            raise translated(error, statement) from error

    async def _attempt(self, request: _Request) -> Sequence[Any]:
        try:
            prepared = [self._statements.get(query) or await self._prepare(query) for query, _ in request]
            if len(request) == 1:
                return await self._answer(prepared[0], request[0][1])
            return await self._answer(_together(prepared, [values for _, values in request]), None)
        except DRIVER_ERRORS as error:
            raise translated(error, request[0][0]) from error

    async def _prepare(self, query: str) -> PreparedStatement:
        async with self._preparing:
            if query not in self._statements:
                if len(self._statements) >= self._settings.statements_max:
                    raise Fatal(f"more than {self._settings.statements_max} distinct queries: one is built from values")
                statement = await asyncio.to_thread(self._session.prepare, query, keyspace=self._keyspace)
                statement.is_idempotent = True
                self._statements[query] = statement
            return self._statements[query]

    async def _answer(self, statement: Statement, values: Sequence[object] | None) -> Sequence[Any]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Sequence[Any]] = loop.create_future()
        # The driver's own timer comes first; this one is for a driver thread that died.
        deadline_s = self._settings.request_seconds_max * 2
        async with self._slots, asyncio.timeout(deadline_s):
            response = self._session.execute_async(statement, values)
            response.add_callbacks(
                lambda rows: loop.call_soon_threadsafe(_succeed, answer, rows),
                lambda error: loop.call_soon_threadsafe(_fail, answer, error),
            )
            return await answer


@asynccontextmanager
async def open_session(settings: CassandraSettings) -> AsyncIterator[CassandraSession]:
    """A session whose queries are about the settings' keyspace; closed on exit.

    The keyspace need not exist for ``change_schema`` (with protocol 4 it must). Raises Retryable when no node answers
    within ``connect_seconds_max``, Fatal when the credentials are refused.
    """
    abandoned = threading.Event()
    logging.getLogger("cassandra.protocol").addFilter(_is_news)
    keyspace = None if _names_keyspace(settings) else settings.keyspace
    try:
        async with asyncio.timeout(settings.connect_seconds_max):
            session = await asyncio.to_thread(_connect, settings, keyspace, abandoned)
    except DRIVER_ERRORS as error:
        raise translated(error, "connect") from error
    finally:
        # A thread cannot be cancelled: one that connects after the deadline closes what it opened.
        abandoned.set()
    _log.info("cassandra_connected", keyspace=settings.keyspace, contact_points=settings.contact_points)
    try:
        yield CassandraSession(session, settings)
    finally:
        await asyncio.to_thread(session.cluster.shutdown)


def _connect(settings: CassandraSettings, keyspace: str | None, abandoned: threading.Event) -> Session:
    cluster = _cluster(settings)
    with ExitStack() as on_failure:
        on_failure.callback(cluster.shutdown)
        session = cluster.connect(keyspace)
        # Paging is ours (LIMIT): the driver would fetch further pages with blocking calls.
        session.default_fetch_size = None
        # prepare() takes no deadline, and the public setter of the default refuses beside execution profiles.
        session._default_timeout = settings.request_seconds_max  # noqa: SLF001
        if not abandoned.is_set():
            on_failure.pop_all()
    return session


def _cluster(settings: CassandraSettings) -> Cluster:
    profile = ExecutionProfile(
        load_balancing_policy=TokenAwarePolicy(DCAwareRoundRobinPolicy(local_dc=settings.local_dc)),
        retry_policy=FallthroughRetryPolicy(),
        consistency_level=ConsistencyLevel.name_to_value[settings.consistency],
        request_timeout=settings.request_seconds_max,
    )
    auth = None
    if settings.username is not None and settings.password is not None:
        auth = PlainTextAuthProvider(settings.username, settings.password.get_secret_value())
    return Cluster(
        contact_points=settings.contact_points,
        port=settings.port,
        protocol_version=settings.protocol_version,
        auth_provider=auth,
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
        connect_timeout=settings.handshake_seconds_max,
        control_connection_timeout=settings.handshake_seconds_max,
        # The driver's own policy doubles its delay up to ten minutes: after an outage nobody would know why we wait.
        reconnection_policy=ConstantReconnectionPolicy(settings.reconnect_seconds, max_attempts=None),
        idle_heartbeat_interval=settings.heartbeat_seconds,
        idle_heartbeat_timeout=settings.heartbeat_seconds,
        max_schema_agreement_wait=settings.schema_seconds_max,
        monitor_reporting_enabled=False,
    )


def _names_keyspace(settings: CassandraSettings) -> bool:
    return settings.protocol_version >= _KEYSPACE_PER_STATEMENT


def _is_news(record: logging.LogRecord) -> bool:
    # Cassandra 5 takes a keyspace named by the protocol for one named by USE, and warns of every statement.
    return "anti-pattern due to ambiguity in non-qualified table names" not in record.getMessage()


def _together(statements: Sequence[PreparedStatement], values: Sequence[Sequence[object]]) -> BatchStatement:
    # Rows of one partition are one mutation for Cassandra: whole or not at all, without a log of batches.
    batch = BatchStatement(BatchType.UNLOGGED)
    batch.add_all(statements, values)
    batch.is_idempotent = True
    return batch


def _succeed(answer: asyncio.Future[Sequence[Any]], rows: Sequence[Any] | None) -> None:
    if not answer.done():
        answer.set_result(() if rows is None else rows)


def _fail(answer: asyncio.Future[Sequence[Any]], error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)
