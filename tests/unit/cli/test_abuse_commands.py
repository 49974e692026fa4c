"""``turnstream abuse`` over a log in memory."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from schemas import serde
from schemas.abuse import AbuseEvidence, AbuseLevel, AbuseSignalled
from schemas.topics import ABUSE_EVIDENCE, ABUSE_SIGNALS
from tests.support.memory_log import MemoryLog
from turnstream.commands import abuse, log_reading
from turnstream.commands.exits import Exit
from turnstream.settings import Settings

NOW_MS = 1_795_000_000_000
SETTINGS = Settings()

app = typer.Typer()
abuse.register(app)


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> MemoryLog:
    memory = MemoryLog(partitions=4)
    memory.now_ms = NOW_MS

    @asynccontextmanager
    async def reader(_settings: object) -> AsyncIterator[Any]:
        yield memory.reader()

    @asynccontextmanager
    async def producer(_settings: object) -> AsyncIterator[Any]:
        yield memory.producer()

    monkeypatch.setattr(log_reading, "KafkaLogReader", reader)
    monkeypatch.setattr(abuse, "KafkaProducer", producer)
    monkeypatch.setattr(abuse, "require_settings", lambda: SETTINGS)
    monkeypatch.setattr(abuse, "now_ms", lambda: NOW_MS)
    return memory


@pytest.fixture
def audit(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str | None]]:
    written: list[tuple[str, str, str | None]] = []

    @contextmanager
    def audited(_settings: Settings, action: str, subject: str, *, reason: str | None = None) -> Iterator[None]:
        written.append((action, subject, reason))
        yield

    monkeypatch.setattr(abuse, "audited", audited)
    return written


def put(log: MemoryLog, user: str, level: AbuseLevel, until_ms: int | None = NOW_MS + 1_000) -> None:
    signal = AbuseSignalled(
        tenant_id="acme",
        user_id=user,
        level=level,
        causes=("burst",),
        counts={"burst": 7},
        until_ms=until_ms,
        signalled_at_ms=NOW_MS,
    )
    log.put(ABUSE_SIGNALS.name, f"acme|{user}".encode(), serde.encode(signal))


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["abuse", *arguments], env={"COLUMNS": "200"})


def listed(*arguments: str) -> list[tuple[str, str]]:
    result = invoke("list", "--json", *arguments)
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    return [(row["user_id"], row["stands_on"]) for row in rows]


def test_the_list_has_who_stands_on_the_ladder_now_the_highest_rung_first(log: MemoryLog) -> None:
    put(log, "ann", AbuseLevel.SUSPEND)
    put(log, "ann", AbuseLevel.WARN)
    put(log, "bob", AbuseLevel.SUSPEND)
    put(log, "eve", AbuseLevel.SLOW, NOW_MS)
    put(log, "joe", AbuseLevel.NONE, None)
    assert listed() == [("bob", "suspend"), ("ann", "warn")]
    assert dict(listed("--all")) == {"bob": "suspend", "ann": "warn", "eve": "none", "joe": "none"}
    shown = invoke("list").stdout
    assert "bob" in shown
    assert "burst 7" in shown


def test_a_user_is_shown_with_what_counted_against_them(log: MemoryLog) -> None:
    put(log, "ann", AbuseLevel.SLOW)
    for turn, tenant in (("t1", "acme"), ("t2", "other"), ("t3", "acme")):
        seen = AbuseEvidence(kind="blocked_input", tenant_id=tenant, user_id="ann", turn_id=turn, seen_at_ms=NOW_MS)
        log.put(ABUSE_EVIDENCE.name, b"ann", serde.encode(seen))
    shown = json.loads(invoke("show", "ann", "--tenant", "acme", "--json").stdout)
    assert shown["stands_on"] == "slow"
    assert [evidence["turn_id"] for evidence in shown["evidence"]] == ["t1", "t3"]
    assert "blocked_input  t3" in invoke("show", "ann", "--tenant", "acme").stdout


def test_whoever_was_never_signalled_is_exit_code_4(log: MemoryLog) -> None:
    put(log, "ann", AbuseLevel.SLOW)
    result = invoke("show", "ann", "--tenant", "other")
    assert result.exit_code == Exit.NOT_FOUND


def test_a_lift_is_audited_and_told_to_auth_and_to_the_windows(
    log: MemoryLog, audit: list[tuple[str, str, str | None]]
) -> None:
    put(log, "ann", AbuseLevel.SUSPEND)
    result = invoke("lift", "ann", "--tenant", "acme", "--reason", "a false alarm")
    assert (result.exit_code, result.stdout) == (0, "lifted\n")
    assert audit == [("abuse.lift", "acme/ann", "a false alarm")]
    assert listed() == []
    (record,) = log.records(ABUSE_EVIDENCE.name)
    evidence: AbuseEvidence = serde.decode(ABUSE_EVIDENCE, record.value)
    assert (record.key, evidence.kind, evidence.seen_at_ms) == (b"ann", "lifted", NOW_MS)


def test_a_lift_of_whoever_was_never_signalled_is_refused_and_does_nothing(
    log: MemoryLog, audit: list[tuple[str, str, str | None]]
) -> None:
    put(log, "ann", AbuseLevel.SUSPEND)
    result = invoke("lift", "ann", "--tenant", "other", "--reason", "mistyped")
    assert (result.exit_code, result.stdout) == (Exit.NOT_FOUND, "")
    assert "nothing was signalled about this user of `other`" in result.stderr
    assert (audit, log.records(ABUSE_EVIDENCE.name)) == ([], [])
    assert listed() == [("ann", "suspend")]


def test_whose_level_has_ended_can_be_lifted_so_that_less_is_counted(
    log: MemoryLog, audit: list[tuple[str, str, str | None]]
) -> None:
    put(log, "eve", AbuseLevel.SLOW, NOW_MS)
    assert invoke("lift", "eve", "--tenant", "acme", "--reason", "a false alarm").exit_code == 0
    assert len(audit) == len(log.records(ABUSE_EVIDENCE.name)) == 1


def test_a_lift_needs_a_reason(log: MemoryLog, audit: list[tuple[str, str, str | None]]) -> None:
    assert invoke("lift", "ann").exit_code == Exit.BAD_INPUT
    assert audit == []
    assert log.records(ABUSE_SIGNALS.name) == []
