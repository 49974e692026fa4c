"""What the commands say and how they exit; the world they act on is replaced at its seams."""

import importlib.util
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import typer
from typer.testing import CliRunner, Result

from producers.accounts.ports import ApiKeyRow
from producers.http.api_keys import key_hash, parse_api_key
from schemas import ids
from schemas.accounts import AccountChanged
from schemas.errors import Fatal, Retryable
from schemas.topics import BY_NAME, Key, TopicPlan
from tests.support.memory_log import MemoryLog
from turnstream.chat.last_conversation import LastConversation
from turnstream.commands import (
    account_stores,
    chat,
    demo,
    keys,
    limits,
    log_reading,
    running_stack,
    topics,
    trace,
    turn_search,
)
from turnstream.commands.exits import Exit
from turnstream.commands.running_stack import LocalRun, find_connection
from turnstream.local_stack.errors import StackError
from turnstream.local_stack.stack import Stack
from turnstream.log.kafka_topics import TopicState
from turnstream.settings import Settings
from turnstream.stores import cassandra
from turnstream.trace.search import Found
from turnstream.wiring.topics import planned_topics

PEPPER = "test pepper"
SETTINGS = Settings.model_validate({"secrets": {"api_key_pepper": PEPPER}})
TURN = ids.new_turn_id(1_795_000_000_000, 3, bytes(8))
TALK = ids.new_conversation_id(1_795_000_000_000, bytes(10))
EDGE_URL = "http://edge.test/v1"
UNREACHABLE = Retryable("connect to the broker: KafkaConnectionError")

app = typer.Typer()
for command in (chat, demo, keys, limits, topics, trace):
    command.register(app)


@pytest.fixture(autouse=True)
def nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """No local stack and no variables of the developer's own shell."""
    monkeypatch.setattr(running_stack, "local_run", lambda: None)
    monkeypatch.setattr(demo, "local_run", lambda: None)
    for module in (topics, keys, turn_search):
        monkeypatch.setattr(module, "require_settings", lambda: SETTINGS)
    for variable in (running_stack.BASE_URL, running_stack.API_KEY):
        monkeypatch.delenv(variable, raising=False)


def invoke(*arguments: str, piped: str = "") -> Result:
    return CliRunner().invoke(app, list(arguments), input=piped, terminal_width=200)


def assert_one_line(result: Result, code: Exit, words: str) -> None:
    assert result.exit_code == code
    assert result.stdout == ""
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("environ", "run", "expected"),
    [
        ({}, None, None),
        ({}, LocalRun("http://here/v1", "k", {}), ("http://here/v1", "k")),
        ({}, LocalRun(None, None, {}), None),
        ({"TURNSTREAM_BASE_URL": "http://there/v1/"}, LocalRun("http://here/v1", "k", {}), ("http://there/v1", "k")),
        ({"TURNSTREAM_API_KEY": "mine"}, LocalRun("http://here/v1", "k", {}), ("http://here/v1", "mine")),
        ({"TURNSTREAM_BASE_URL": "http://there/v1", "TURNSTREAM_API_KEY": "m"}, None, ("http://there/v1", "m")),
        ({"TURNSTREAM_BASE_URL": "http://there/v1"}, None, None),
    ],
)
def test_the_environment_wins_over_the_local_stack(
    environ: Mapping[str, str], run: LocalRun | None, expected: tuple[str, str] | None
) -> None:
    found = find_connection(environ, run)
    assert (found and (found.base_url, found.api_key)) == expected


def test_a_key_shows_in_no_repr() -> None:
    connection = find_connection({"TURNSTREAM_BASE_URL": "u", "TURNSTREAM_API_KEY": "very-secret"}, None)
    assert "very-secret" not in repr(connection) + repr(LocalRun("u", "very-secret", {}))


# --- chat ----------------------------------------------------------------------------------------------


def test_chat_without_a_stack_says_how_to_start_one() -> None:
    assert_one_line(invoke("chat", "hello"), Exit.NOT_RUNNING, "turnstream up")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--conversation", "nope", "hi"), Exit.BAD_INPUT, "not a conversation id"),
        (("--conversation", "conv_" + "0" * 26, "--last", "hi"), Exit.BAD_INPUT, "exclude each other"),
        (("--last", "hi"), Exit.NOT_FOUND, "no conversation with this server"),
        ((), Exit.BAD_INPUT, "a message has 1 to"),
    ],
)
def test_chat_refuses_bad_input_in_one_line(
    arguments: tuple[str, ...], code: Exit, words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(running_stack.BASE_URL, EDGE_URL)
    monkeypatch.setenv(running_stack.API_KEY, "k")
    monkeypatch.setattr(typer, "get_app_dir", lambda _name: str(tmp_path))
    assert_one_line(invoke("chat", *arguments), code, words)


@pytest.fixture
def edge(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[httpx2.Response], LastConversation]:
    """Lets the edge answer every request alike; returns what the command remembers."""

    def answer(response: httpx2.Response) -> LastConversation:
        transport = httpx2.MockTransport(lambda _request: response)
        monkeypatch.setattr(chat, "open_client", lambda url, _key: httpx2.Client(base_url=url, transport=transport))
        return LastConversation(tmp_path / "last_conversations.json")

    monkeypatch.setenv(running_stack.BASE_URL, EDGE_URL)
    monkeypatch.setenv(running_stack.API_KEY, "k")
    monkeypatch.setattr(typer, "get_app_dir", lambda _name: str(tmp_path))
    return answer


def test_one_question_prints_the_answer_and_nothing_else(
    edge: Callable[[httpx2.Response], LastConversation],
) -> None:
    frames = 'data: {"choices": [{"delta": {"content": "Hi!"}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
    headers = {"content-type": "text/event-stream", "x-request-id": f"chatcmpl-{TURN}", "x-conversation-id": TALK}
    memory = edge(httpx2.Response(200, headers=headers, text=frames))
    result = invoke("chat", piped="hello from a pipe")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "Hi!\n", "")
    assert memory.recall(EDGE_URL) == TALK


def test_a_conversation_that_the_server_refused_is_not_remembered(
    edge: Callable[[httpx2.Response], LastConversation],
) -> None:
    memory = edge(httpx2.Response(404, json={"error": {"message": "No such conversation.", "code": "x"}}))
    result = invoke("chat", "--conversation", TALK, "hi")
    assert_one_line(result, Exit.FAILED, "404: No such conversation.")
    assert memory.recall(EDGE_URL) is None


# --- demo ----------------------------------------------------------------------------------------------


def test_the_demo_needs_the_openai_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    assert_one_line(invoke("demo"), Exit.FAILED, "the package `openai`")


def test_the_demo_tells_in_one_line_why_the_stack_did_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_stack: Stack) -> None:
        raise StackError("port 1 is taken")

    monkeypatch.setattr(Stack, "start", start)
    assert_one_line(invoke("demo"), Exit.NOT_RUNNING, "port 1 is taken")


# --- topics --------------------------------------------------------------------------------------------


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Partitions of the topics that exist, by name."""
    existing: dict[str, int] = {}

    async def describe(_settings: object, plans: Sequence[TopicPlan]) -> tuple[TopicState, ...]:
        return tuple(
            TopicState(plan, existing.get(plan.name), dict(plan.config) if plan.name in existing else {})
            for plan in plans
        )

    async def create(_settings: object, plans: Sequence[TopicPlan]) -> tuple[str, ...]:
        missing = [plan for plan in plans if plan.name not in existing]
        existing.update({plan.name: plan.partitions for plan in missing})
        return tuple(plan.name for plan in missing)

    monkeypatch.setattr(topics, "describe_topics", describe)
    monkeypatch.setattr(topics, "create_topics", create)
    return existing


def test_topics_shows_what_is_missing_and_fails(broker: dict[str, int]) -> None:
    result = invoke("topics", "--json")
    rows = {row["name"]: row for row in json.loads(result.stdout)}
    assert result.exit_code == Exit.FAILED
    assert not broker
    assert {row["state"] for row in rows.values()} == {"missing"}
    assert rows["chat.tokens.v1"]["partitions_planned"] == 16
    assert rows["chat.tokens.v1"]["groups"] == ["turnstream.cassandra_sink"]
    assert rows["chat.tokens.v1.dlq"]["groups"] == []


def test_topics_creates_what_is_missing(broker: dict[str, int]) -> None:
    result = invoke("topics", "--create", "--json")
    assert result.exit_code == 0
    assert {row["state"] for row in json.loads(result.stdout)} == {"ok"}
    assert "created chat.tokens.v1" in result.stderr
    assert broker["chat.tokens.v1"] == 16


def test_topics_shows_a_difference_beside_the_plan(broker: dict[str, int]) -> None:
    invoke("topics", "--create")
    broker["usage.events.v1"] = 7
    result = invoke("topics")
    (line,) = [line for line in result.stdout.splitlines() if "usage.events.v1 " in line]
    assert result.exit_code == Exit.FAILED
    assert "differs" in line
    assert "7 (4)" in line


@pytest.mark.usefixtures("broker")
def test_topics_folds_nothing_in_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = invoke("topics").stdout.splitlines()
    told = {word for line in lines for word in line.split()}
    assert told >= {plan.name for plan in planned_topics(SETTINGS)}
    assert told >= {group.removeprefix("turnstream.") for topic in BY_NAME.values() for group in topic.groups}
    assert told >= {topic.key.value for topic in BY_NAME.values() if topic.key is not Key.ROLLUP}
    assert max(len(line.rstrip()) for line in lines) <= 80


@pytest.mark.parametrize(("error", "code"), [(UNREACHABLE, Exit.NOT_RUNNING), (Fatal("topics differ"), Exit.FAILED)])
def test_topics_tells_a_broken_broker_in_one_line(
    error: Exception, code: Exit, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def describe(_settings: object, _plans: object) -> tuple[TopicState, ...]:
        raise error

    monkeypatch.setattr(topics, "describe_topics", describe)
    assert_one_line(invoke("topics"), code, str(error))


# --- trace ---------------------------------------------------------------------------------------------


def test_trace_refuses_what_is_no_turn_id() -> None:
    assert_one_line(invoke("trace", "nope"), Exit.BAD_INPUT, "not a turn id")
    assert_one_line(invoke("limits", "explain", "nope"), Exit.BAD_INPUT, "not a turn id")


async def no_topics(*_arguments: object) -> list[TopicState]:
    return []


def test_trace_of_an_unknown_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    async def find(*_arguments: object) -> Found:
        return Found((), ())

    monkeypatch.setattr(log_reading, "KafkaLogReader", lambda _settings: MemoryLog().reader())
    monkeypatch.setattr(turn_search, "describe_topics", no_topics)
    monkeypatch.setattr(turn_search, "find_records", find)
    for command in (("trace",), ("limits", "explain")):
        assert_one_line(invoke(*command, f"chatcmpl-{TURN}"), Exit.NOT_FOUND, f"no record of turn {TURN}")


@pytest.mark.parametrize("error", [UNREACHABLE, ExceptionGroup("scan", [UNREACHABLE, UNREACHABLE])])
def test_trace_without_a_broker(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(*_arguments: object) -> Found:
        raise error

    monkeypatch.setattr(log_reading, "KafkaLogReader", lambda _settings: MemoryLog().reader())
    monkeypatch.setattr(turn_search, "describe_topics", no_topics)
    monkeypatch.setattr(turn_search, "find_records", fails)
    for command in (("trace",), ("limits", "explain")):
        assert_one_line(invoke(*command, TURN), Exit.NOT_RUNNING, str(UNREACHABLE))


# --- keys ----------------------------------------------------------------------------------------------


@pytest.fixture
def told() -> list[AccountChanged]:
    """What every process was told."""
    return []


@pytest.fixture
def stored_keys(monkeypatch: pytest.MonkeyPatch, told: list[AccountChanged]) -> list[ApiKeyRow]:
    """The rows that the commands store."""
    rows: list[ApiKeyRow] = []

    @asynccontextmanager
    async def open_session(_settings: object) -> Any:
        yield object()

    async def create_row(_cql: object, row: ApiKeyRow) -> None:
        rows.append(row)

    async def list_rows(_cql: object, _rows_max: int) -> Sequence[ApiKeyRow]:
        return rows

    async def revoke_rows(_cql: object, key_id: str, _now_ms: int, _rows_max: int) -> Sequence[ApiKeyRow]:
        return [row for row in rows if row.key_id == key_id]

    async def publish(_settings: Settings, changes: Sequence[AccountChanged]) -> None:
        told.extend(changes)

    monkeypatch.setattr(cassandra, "open_session", open_session)
    monkeypatch.setattr(keys, "create_key_row", create_row)
    monkeypatch.setattr(keys, "list_key_rows", list_rows)
    monkeypatch.setattr(keys, "revoke_key_rows", revoke_rows)
    monkeypatch.setattr(account_stores, "_publish", publish)
    return rows


def test_a_key_is_printed_once_and_stored_as_its_hash(stored_keys: list[ApiKeyRow]) -> None:
    result = invoke("keys", "create", "--user", "ada", "--tenant", "acme", "--plan", "pro", "--label", "laptop")
    assert result.exit_code == 0
    key = parse_api_key(result.stdout.strip())
    assert key is not None
    (row,) = stored_keys
    assert (row.tenant_id, row.user_id, row.plan, row.label, row.key_id) == ("acme", "ada", "pro", "laptop", key.key_id)
    assert row.key_hash == key_hash(key, PEPPER.encode())
    assert key.text not in repr(row)


def test_two_keys_differ(stored_keys: list[ApiKeyRow]) -> None:
    assert invoke("keys", "create").stdout != invoke("keys", "create").stdout
    assert len({row.key_hash for row in stored_keys}) == 2


@pytest.mark.parametrize(
    ("option", "value"), [("--user", "a b"), ("--tenant", ""), ("--plan", "x" * 65), ("--label", "x" * 201)]
)
def test_keys_refuses_bad_names_in_one_line(option: str, value: str, stored_keys: list[ApiKeyRow]) -> None:
    assert_one_line(invoke("keys", "create", option, value), Exit.BAD_INPUT, option)
    assert stored_keys == []


def test_keys_refuses_a_plan_that_is_not_set(stored_keys: list[ApiKeyRow]) -> None:
    assert_one_line(invoke("keys", "create", "--plan", "nope"), Exit.BAD_INPUT, "no such plan; there are free, ")
    assert stored_keys == []


def test_a_narrow_terminal_does_not_cut_the_ids_of_keys(
    stored_keys: list[ApiKeyRow], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    invoke("keys", "create", "--user", "a-user-with-a-long-name", "--plan", "enterprise", "--expires", "30d")
    assert stored_keys[0].key_id in invoke("keys", "list").stdout


def test_keys_without_a_pepper_names_the_variable(
    stored_keys: list[ApiKeyRow], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "require_settings", lambda: Settings.model_validate({"secrets": {}}))
    assert_one_line(invoke("keys", "create"), Exit.BAD_INPUT, "TURNSTREAM_SECRETS__API_KEY_PEPPER")
    assert stored_keys == []


def test_the_list_shows_names_and_nothing_secret(stored_keys: list[ApiKeyRow]) -> None:
    invoke("keys", "create", "--label", "[red]mine[/red]")
    shown = invoke("keys", "list").stdout
    assert stored_keys[0].key_id in shown
    assert "[red]mine" in shown
    assert stored_keys[0].key_hash not in shown


def test_a_key_is_confined_as_asked(stored_keys: list[ApiKeyRow]) -> None:
    options = ("--expires", "2h", "--models", "turnstream-fast", "--requests-per-minute", "3")
    assert invoke("keys", "create", *options).exit_code == 0
    (row,) = stored_keys
    assert (row.models, row.requests_per_minute, row.tokens_per_minute) == (("turnstream-fast",), 3, None)
    assert row.expires_at_ms == row.created_at_ms + 2 * 3_600_000
    assert "confined to" in invoke("keys", "list").stdout


@pytest.mark.parametrize(("option", "value"), [("--expires", "soon"), ("--expires", "0d"), ("--models", "gpt-4")])
def test_a_key_that_is_confined_to_nonsense_is_refused(option: str, value: str, stored_keys: list[ApiKeyRow]) -> None:
    assert_one_line(invoke("keys", "create", option, value), Exit.BAD_INPUT, option)
    assert stored_keys == []


def test_revoking(stored_keys: list[ApiKeyRow], told: list[AccountChanged]) -> None:
    invoke("keys", "create")
    assert invoke("keys", "revoke", stored_keys[0].key_id).stdout == "revoked\n"
    assert [(one.key_hash, one.access_lost) for one in told] == [(stored_keys[0].key_hash, True)]
    assert_one_line(invoke("keys", "revoke", "unknown"), Exit.NOT_FOUND, "no key has this id")


def test_revoking_without_the_log_says_how_long_caches_live(
    stored_keys: list[ApiKeyRow], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_arguments: object) -> None:
        raise UNREACHABLE

    monkeypatch.setattr(account_stores, "_publish", fail)
    invoke("keys", "create")
    result = invoke("keys", "revoke", stored_keys[0].key_id)
    assert (result.exit_code, result.stdout) == (0, "revoked\n")
    assert "caches forget within" in result.stderr
