"""``turnstream dlq`` and ``turnstream audit`` over a log in memory."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from producers.redrive.letters import Letter
from producers.redrive.ports import RedrivePorts
from schemas.accounts import AccountRole
from schemas.errors import Retryable
from schemas.ports import LogReader
from schemas.topics import OPERATIONS_AUDIT, TURNS_SUBMITTED, USAGE_EVENTS
from tests.support import turn_events as have
from tests.support.memory_log import MemoryLog
from tests.unit.redrive.redrive_world import RedriveWorld
from turnstream.audit.actor import Actor
from turnstream.commands import audit, audited, dlq, dlq_acts, letter_options, log_reading
from turnstream.commands.exits import Exit
from turnstream.settings import Settings
from turnstream.wiring import audit as audit_wiring
from turnstream.wiring import redrive as redrive_wiring

WRITTEN = "my dog is called Waldmann"
OPERATOR = Settings.model_validate({"operations": {"letters_max": 2}})

app = typer.Typer()
dlq.register(app)
audit.register(app)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> RedriveWorld:
    world = RedriveWorld()

    @asynccontextmanager
    async def open_redrive(_settings: Settings, _reader: LogReader) -> AsyncIterator[RedrivePorts]:
        yield world.ports("acme/ann")

    for reading in (dlq_acts, log_reading):
        monkeypatch.setattr(reading, "KafkaLogReader", lambda _settings: world.log.reader())
    for module in (dlq, dlq_acts, audit):
        monkeypatch.setattr(module, "now_ms", lambda: world.log.now_ms)
        monkeypatch.setattr(module, "require_settings", lambda: OPERATOR)
    monkeypatch.setattr(letter_options, "now_ms", lambda: world.log.now_ms)
    for wired in (audited, audit_wiring):
        monkeypatch.setattr(wired, "KafkaProducer", lambda _settings: world.log.producer())
    monkeypatch.setattr(redrive_wiring, "open_redrive", open_redrive)
    return world


@pytest.fixture
def letter(world: RedriveWorld) -> Letter:
    return world.bury(TURNS_SUBMITTED, have.submitted(have.turn(1), have.user(WRITTEN)), have.turn_id(1))


def invoke(*arguments: str) -> Result:
    result = CliRunner().invoke(app, arguments)
    assert not isinstance(result.exception, Exception) or isinstance(result.exception, SystemExit), result.exception
    return result


def lines(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_letters_are_listed_and_counted_without_content(world: RedriveWorld, letter: Letter) -> None:
    world.bury(USAGE_EVENTS, b"{", None)
    listed = invoke("dlq", "list", "--json")
    assert [(row["place"], row["state"]) for row in lines(listed)] == [
        (str(letter.place), "open"),
        (f"{USAGE_EVENTS.dlq}/0/0", "open"),
    ]
    assert "Waldmann" not in listed.output
    (counted,) = lines(invoke("dlq", "count", "--topic", TURNS_SUBMITTED.name, "--json"))
    assert (counted["letters"], counted["stage"], counted["topic"]) == (1, "stage", TURNS_SUBMITTED.name)
    assert TURNS_SUBMITTED.name in invoke("dlq", "count").stdout
    assert str(letter.place) in invoke("dlq", "list").stdout


@pytest.mark.parametrize(
    ("option", "value", "found"),
    [
        ("--cause", "MAX_TOKENS", 1),
        ("--cause", "nothing", 0),
        ("--stage", "stage", 1),
        ("--stage", "auth", 0),
        ("--turn", f"chatcmpl-{have.turn_id(1)}", 1),
        ("--turn", have.turn_id(2), 0),
        ("--since", "1h", 1),
        ("--until", "1h", 0),
        ("--state", "discarded", 0),
    ],
)
def test_letters_are_found_by_what_is_known_of_them(
    world: RedriveWorld, letter: Letter, option: str, value: str, found: int
) -> None:
    del world, letter
    assert len(lines(invoke("dlq", "list", option, value, "--json"))) == found


def test_a_letter_is_shown_sealed(letter: Letter) -> None:
    result = invoke("dlq", "show", str(letter.place))
    assert result.exit_code == 0
    assert "Waldmann" not in result.output
    assert have.turn_id(1) in result.stdout
    assert f"<{len(WRITTEN)} characters>" in result.stdout


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("show", f"{TURNS_SUBMITTED.dlq}/0/9"), Exit.NOT_FOUND, "no dead letter"),
        (("show", f"{TURNS_SUBMITTED.dlq}/1/0"), Exit.NOT_FOUND, "no dead letter"),
        (("show", "nonsense"), Exit.BAD_INPUT, "a place is"),
        (("show", f"{TURNS_SUBMITTED.name}/0/0"), Exit.BAD_INPUT, ".dlq"),
        (("list", "--topic", "nonsense"), Exit.BAD_INPUT, "no such topic"),
        (("list", "--since", "nonsense"), Exit.BAD_INPUT, "not a time"),
        (("redrive", "--where", "turn.stored"), Exit.BAD_INPUT, "--topic"),
        (("redrive", "--merge-patch", "{"), Exit.BAD_INPUT, "no JSON"),
        (("redrive", "--merge-patch", "[]"), Exit.BAD_INPUT, "a JSON object"),
        (("redrive", "--value-file", "x"), Exit.BAD_INPUT, "one letter"),
        (("redrive",), Exit.NOT_FOUND, "no dead letters"),
        (("discard", "--reason", " "), Exit.BAD_INPUT, "--reason"),
        (("discard", "--reason", "why"), Exit.NOT_FOUND, "no open dead letters"),
    ],
)
def test_what_cannot_be_meant_is_one_line(arguments: tuple[str, ...], code: Exit, words: str) -> None:
    result = invoke("dlq", *arguments)
    assert result.exit_code == code
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1


def actor_is(monkeypatch: pytest.MonkeyPatch, actor: Actor) -> None:
    async def find_actor(_settings: Settings) -> Actor:
        return actor

    monkeypatch.setattr(audited, "find_actor", find_actor)
    monkeypatch.setattr(audit_wiring, "find_actor", find_actor)


def test_content_is_revealed_to_an_admin_with_a_reason_and_audited(
    letter: Letter, monkeypatch: pytest.MonkeyPatch
) -> None:
    actor_is(monkeypatch, Actor("acme/ann", frozenset({AccountRole.ADMIN})))
    place = str(letter.place)
    assert invoke("dlq", "show", place, "--reveal").exit_code == Exit.BAD_INPUT
    shown = invoke("dlq", "show", place, "--reveal", "--reason", "ticket 4711")
    assert "Waldmann" in shown.stdout
    told = lines(invoke("audit", "list", "--json"))
    assert [(each["action"], each["subject"], each["outcome"], each["actor"]) for each in told] == [
        ("dlq.reveal", place, outcome, "acme/ann") for outcome in ("begun", "done")
    ]
    listed = invoke("audit", "list").output
    assert f"acme/ann  dlq.reveal  done  {place}" in listed
    assert "    ticket 4711, origin=" in listed
    assert "Waldmann" not in listed


@pytest.mark.parametrize("actor", [Actor("os:ann"), Actor("acme/ann", frozenset({AccountRole.OPERATOR}))])
def test_content_is_revealed_to_nobody_else(letter: Letter, actor: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    actor_is(monkeypatch, actor)
    refused = invoke("dlq", "show", str(letter.place), "--reveal", "--reason", "curious")
    assert refused.exit_code == Exit.BAD_INPUT
    assert "Waldmann" not in refused.output
    assert not lines(invoke("audit", "list", "--json"))


def test_a_discard_is_shown_first_and_then_done(world: RedriveWorld, letter: Letter) -> None:
    command = ("dlq", "discard", str(letter.place), "--reason", "spam")
    assert "would discard 1" in invoke(*command).stdout
    assert not world.log.records(OPERATIONS_AUDIT.name)
    assert invoke(*command, "--execute").stdout == "discarded 1 letters\n"
    (row,) = lines(invoke("dlq", "list", "--json"))
    assert row["state"] == "discarded"
    (view,) = lines(invoke("dlq", "show", str(letter.place), "--json"))
    assert view["state_reason"] == "spam"
    assert invoke(*command, "--execute").exit_code == Exit.NOT_FOUND
    passed_over = lines(invoke("dlq", "redrive", "--execute", "--json"))
    assert [sorted(line) for line in passed_over] == [["closed", "letters"]]


def test_a_redrive_is_shown_first_and_then_done_once(world: RedriveWorld, letter: Letter) -> None:
    planned = invoke("dlq", "redrive")
    assert planned.exit_code == 0
    assert "would redrive: 1 of 1" in planned.stdout
    assert not world.driven(TURNS_SUBMITTED)
    done = invoke("dlq", "redrive", "--execute", "--reason", "mended")
    assert (done.exit_code, done.stdout.splitlines()[0]) == (0, "redriven: 1 of 1 letters")
    again = invoke("dlq", "redrive", "--execute")
    assert (again.exit_code, again.stdout.splitlines()[0]) == (0, "redriven: 0 of 1 letters")
    assert len(world.driven(TURNS_SUBMITTED)) == 1
    (row,) = lines(invoke("dlq", "list", "--state", "redriven", "--json"))
    assert (row["place"], row["turn_id"]) == (str(letter.place), have.turn_id(1))
    assert row["new_turn_id"] != row["turn_id"]


def test_what_cannot_go_back_is_named_and_the_exit_code_tells(world: RedriveWorld) -> None:
    world.bury(TURNS_SUBMITTED, b"{", have.turn_id(1))
    stays = invoke("dlq", "redrive", "--merge-patch", "{}", "--execute")
    assert stays.exit_code == Exit.FAILED
    assert "the value is no JSON" in stays.stdout


def test_a_value_is_replaced_from_a_file(world: RedriveWorld, tmp_path: Path) -> None:
    broken = world.bury(TURNS_SUBMITTED, b"{", have.turn_id(1))
    file = tmp_path / "value.json"
    file.write_bytes(have.submitted(have.turn(1)).model_dump_json(exclude_none=True).encode())
    done = invoke("dlq", "redrive", str(broken.place), "--value-file", str(file), "--execute")
    assert done.exit_code == 0, done.output
    assert len(world.driven(TURNS_SUBMITTED)) == 1


def test_no_more_letters_at_once_than_the_settings_allow(world: RedriveWorld) -> None:
    for number in range(3):
        world.bury(TURNS_SUBMITTED, have.submitted(have.turn(number)), have.turn_id(number))
    first = invoke("dlq", "redrive", "--execute")
    assert "only the first 2" in first.stderr
    assert len(world.driven(TURNS_SUBMITTED)) == 2
    invoke("dlq", "redrive", "--execute")
    assert len(world.driven(TURNS_SUBMITTED)) == 3


@pytest.mark.usefixtures("letter")
def test_conditions_of_a_replay_choose_letters(world: RedriveWorld) -> None:
    topic = ("--topic", TURNS_SUBMITTED.name)
    assert invoke("dlq", "redrive", *topic, "--where", "turn.stored").exit_code == Exit.NOT_FOUND
    assert invoke("dlq", "redrive", *topic, "--where", "turn.nonsense").exit_code == Exit.BAD_INPUT
    assert invoke("dlq", "redrive", "--conversation", have.conversation_id(2)).exit_code == Exit.NOT_FOUND
    assert invoke("dlq", "redrive", "--conversation", have.conversation_id(1), "--execute").exit_code == 0
    assert len(world.driven(TURNS_SUBMITTED)) == 1


def test_without_a_broker_it_is_one_line(world: RedriveWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    class Unreachable:
        def __init__(self, _settings: object) -> None: ...

        async def __aenter__(self) -> MemoryLog:
            raise Retryable("the broker cannot be reached")

        async def __aexit__(self, *exc_info: object) -> None: ...

    del world
    for reading in (dlq_acts, log_reading):
        monkeypatch.setattr(reading, "KafkaLogReader", Unreachable)
    for arguments in (("dlq", "list"), ("dlq", "redrive"), ("audit", "list")):
        result = invoke(*arguments)
        assert (result.exit_code, len(result.stderr.splitlines())) == (Exit.NOT_RUNNING, 1)
