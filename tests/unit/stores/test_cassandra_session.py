"""The ``Cql`` port over a driver session that is played: repeats, translations and bounds."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from cassandra import InvalidRequest, OperationTimedOut, Unauthorized, Unavailable
from cassandra.cluster import NoHostAvailable
from cassandra.connection import ConnectionShutdown
from cassandra.protocol import OverloadedErrorMessage
from cassandra.query import UNSET_VALUE, BatchType

from schemas.errors import Fatal, Retryable
from schemas.ports import Upsert
from turnstream.stores import cassandra
from turnstream.stores.cassandra import CassandraSession, CassandraSettings

QUERY = "SELECT x FROM t WHERE k = ?"
SETTINGS = CassandraSettings(attempts_max=3, retry_delay_ms=0, requests_in_flight_max=2, statements_max=2)


class Response:
    """A driver's ResponseFuture whose answer the test gives."""

    def __init__(self) -> None:
        self.succeed: Callable[[Sequence[Any] | None], object] = lambda _: None
        self.fail: Callable[[Exception], object] = lambda _: None

    def add_callbacks(self, callback: Callable[..., object], errback: Callable[..., object]) -> None:
        self.succeed, self.fail = callback, errback


@dataclass
class Driver:
    """A driver session that answers with ``outcomes``, one per request; without any, requests stay open."""

    outcomes: list[Exception | list[Any] | None] = field(default_factory=list)
    prepared: list[str] = field(default_factory=list)
    sent: list[tuple[str, list[object]]] = field(default_factory=list)
    open: list[Response] = field(default_factory=list)

    def prepare(self, query: str, keyspace: str) -> SimpleNamespace:
        assert keyspace == "turnstream"
        self.prepared.append(query)
        return SimpleNamespace(query=query, is_idempotent=False)

    def execute_async(self, statement: SimpleNamespace, values: list[object]) -> Response:
        assert statement.is_idempotent
        self.sent.append((statement.query, values))
        response = Response()
        self.open.append(response)
        if self.outcomes:
            asyncio.get_running_loop().call_soon(_answer, response, self.outcomes.pop(0))
        return response


def _answer(response: Response, outcome: Exception | list[Any] | None) -> None:
    if isinstance(outcome, Exception):
        response.fail(outcome)
    else:
        response.succeed(outcome)


def session(driver: Driver, settings: CassandraSettings = SETTINGS) -> CassandraSession:
    return CassandraSession(driver, settings)


async def test_a_query_is_prepared_once_and_none_becomes_unset() -> None:
    driver = Driver([["row"], None])
    cql = session(driver)
    assert await cql.execute(QUERY, ("a", None)) == ["row"]
    assert list(await cql.execute(QUERY, ("b",))) == []
    assert driver.prepared == [QUERY]
    assert driver.sent == [(QUERY, ["a", UNSET_VALUE]), (QUERY, ["b"])]


PASSING = [
    OperationTimedOut(),
    Unavailable("too few", consistency=6, required_replicas=2, alive_replicas=1),
    NoHostAvailable("nobody", {}),
    ConnectionShutdown("closed"),
    OverloadedErrorMessage(code=0x1001, message="busy", info=None),
]


@pytest.mark.parametrize("error", PASSING, ids=lambda error: type(error).__name__)
async def test_what_may_pass_is_tried_again(error: Exception) -> None:
    driver = Driver([error, error, ["row"]])
    assert await session(driver).execute(QUERY, ("a",)) == ["row"]
    assert len(driver.sent) == 3


@pytest.mark.parametrize("error", PASSING, ids=lambda error: type(error).__name__)
async def test_what_does_not_pass_is_retryable_after_the_last_attempt(error: Exception) -> None:
    driver = Driver([error] * 4)
    with pytest.raises(Retryable, match="SELECT x"):
        await session(driver).execute(QUERY, ("a",))
    assert len(driver.sent) == 3


REFUSALS = [
    InvalidRequest("no such table"),
    Unauthorized("no"),
    NoHostAvailable("refused", {"node": InvalidRequest("no such keyspace")}),
]


@pytest.mark.parametrize("error", REFUSALS, ids=str)
async def test_a_rejected_query_is_fatal_at_once(error: Exception) -> None:
    driver = Driver([error, ["row"]])
    with pytest.raises(Fatal):
        await session(driver).execute(QUERY, ("a",))
    assert len(driver.sent) == 1


async def test_values_never_show_in_an_error() -> None:
    driver = Driver([InvalidRequest("no")])
    with pytest.raises(Fatal) as caught:
        await session(driver).execute(QUERY, ("what the user wrote",))
    assert "what the user wrote" not in str(caught.value)


async def test_a_driver_that_never_answers_is_given_up() -> None:
    driver = Driver()
    settings = SETTINGS.model_copy(update={"request_seconds_max": 0.001, "attempts_max": 2})
    with pytest.raises(Retryable):
        await session(driver, settings).execute(QUERY)
    assert len(driver.sent) == 2
    # The answer that comes after all finds nobody and does no harm.
    driver.open[0].succeed(["late"])


async def test_requests_in_flight_are_bounded() -> None:
    driver = Driver([["warm"]])
    cql = session(driver)
    await cql.execute(QUERY)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(cql.execute(QUERY)) for _ in range(3)]
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(driver.sent) == 3
        driver.open[1].succeed([])
        await tasks[0]
        await asyncio.sleep(0)
        assert len(driver.sent) == 4
        for response in driver.open[2:]:
            response.succeed([])


async def test_queries_built_from_values_are_found_out() -> None:
    driver = Driver([[], []])
    cql = session(driver)
    await cql.execute("SELECT 1 FROM t")
    await cql.execute("SELECT 2 FROM t")
    with pytest.raises(Fatal, match="distinct"):
        await cql.execute("SELECT 3 FROM t")


async def test_concurrent_first_uses_prepare_once() -> None:
    driver = Driver([[], []])
    cql = session(driver)
    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(cql.execute(QUERY))
    assert driver.prepared == [QUERY]


async def test_a_statement_is_given_up_after_its_time_whatever_attempts_are_left() -> None:
    driver = Driver()
    settings = SETTINGS.model_copy(update={"answer_seconds_max": 0.2, "request_seconds_max": 60.0})
    with pytest.raises(Retryable, match="TimeoutError"):
        await session(driver, settings).execute(QUERY)
    assert len(driver.sent) == 1


async def test_waiting_for_a_slot_counts_as_waiting_for_an_answer() -> None:
    driver = Driver([["warm"]])
    cql = session(driver, SETTINGS.model_copy(update={"answer_seconds_max": 0.05, "request_seconds_max": 60.0}))
    await cql.execute(QUERY)
    outcomes = await asyncio.gather(*(cql.execute(QUERY) for _ in range(3)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Retryable] * 3
    assert len(driver.sent) == 3


class Batch:
    """The driver's batch, which takes real prepared statements alone."""

    def __init__(self, kind: BatchType) -> None:
        assert kind is BatchType.UNLOGGED
        self.is_idempotent = False
        self.query = ""
        self.rows: list[list[object]] = []

    def add_all(self, statements: Sequence[SimpleNamespace], values: Sequence[list[object]]) -> None:
        self.query = " & ".join(statement.query for statement in statements)
        self.rows.extend(values)


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[Batch]:
    made: list[Batch] = []

    def make(kind: BatchType) -> Batch:
        made.append(Batch(kind))
        return made[-1]

    monkeypatch.setattr(cassandra, "BatchStatement", make)
    return made


async def test_rows_of_a_partition_go_together_a_bounded_number_at_a_time(batches: list[Batch]) -> None:
    driver = Driver([None, None, None])
    cql = session(driver, SETTINGS.model_copy(update={"batch_rows_max": 2}))
    rows = [("a", 1), ("b", 1), ("a", None), ("a", 3)]
    await cql.write([Upsert((key,), QUERY, (key, value)) for key, value in rows])
    assert [batch.rows for batch in batches] == [[["a", 1], ["a", UNSET_VALUE]]]
    assert [query for query, _ in driver.sent] == [f"{QUERY} & {QUERY}", QUERY, QUERY]


async def test_a_batch_is_tried_again_as_a_query_is(batches: list[Batch]) -> None:
    driver = Driver([OperationTimedOut(), None])
    await session(driver).write([Upsert(("a",), QUERY, ("a", 1)), Upsert(("a",), QUERY, ("a", 2))])
    assert len(driver.sent) == len(batches) == 2


async def test_a_write_of_which_one_row_is_not_confirmed_is_retryable() -> None:
    driver = Driver([OperationTimedOut(), None])
    cql = session(driver, SETTINGS.model_copy(update={"attempts_max": 1}))
    with pytest.raises(Retryable):
        await cql.write([Upsert(("a",), QUERY, ("a",)), Upsert(("b",), QUERY, ("b",))])


async def test_nothing_to_write_asks_nobody() -> None:
    driver = Driver()
    await session(driver).write([])
    assert driver.sent == []
