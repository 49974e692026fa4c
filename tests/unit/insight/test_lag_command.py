import json

import pytest
import typer
from typer.testing import CliRunner, Result

from schemas.errors import Retryable
from schemas.ports import TopicPartition
from schemas.topics import TURNS_SUBMITTED
from tests.support.memory_log import MemoryLog
from turnstream.commands import lag, running_stack
from turnstream.commands.exits import Exit
from turnstream.commands.running_stack import LocalRun
from turnstream.insight import lag_reading
from turnstream.insight.lag import Extent, GroupState, LagReport, build_lag
from turnstream.insight.lag_reading import LagReader
from turnstream.log.kafka_groups import GroupDescription
from turnstream.settings import Settings

NOW_MS = 1_795_000_000_000
AUTH = TURNS_SUBMITTED.groups[0]
PLACE = TopicPartition(TURNS_SUBMITTED.name, 0)


def invoke(monkeypatch: pytest.MonkeyPatch, *arguments: str, members: int = 1) -> Result:
    app = typer.Typer()
    lag.register(app)
    state = GroupState(AUTH, "Stable" if members else "Empty", members, {PLACE: 4})
    report = build_lag([state], {PLACE: Extent(0, 7)}, {(PLACE, 4): NOW_MS - 1_200}, NOW_MS)

    async def read(_settings: Settings) -> LagReport:
        return report

    monkeypatch.setattr(lag, "require_settings", Settings)
    monkeypatch.setattr(lag, "read_lag", read)
    return CliRunner().invoke(app, list(arguments), terminal_width=200)


def test_a_table_shows_groups_and_partitions_on_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    short, long = invoke(monkeypatch), invoke(monkeypatch, "--by-partition")
    assert "1.2 s" in short.stdout
    assert "4 of 7" not in short.stdout
    assert "4 of 7" in long.stdout


def test_a_group_without_members_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "none (Empty)" in invoke(monkeypatch, members=0).stdout


def test_json_has_every_partition(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = json.loads(invoke(monkeypatch, "--json").stdout)
    assert shown["groups"][0]["topics"][0]["partitions"] == [
        {"topic": PLACE.topic, "partition": 0, "committed": 4, "end": 7, "records": 3, "age_ms": 1_200}
    ]


@pytest.mark.parametrize(("limit", "code"), [("1.0", Exit.FAILED), ("1.2", 0)])
def test_it_can_be_used_as_a_probe(monkeypatch: pytest.MonkeyPatch, limit: str, code: int) -> None:
    result = invoke(monkeypatch, "--max-seconds", limit)
    assert result.exit_code == code
    assert ("1.2 s behind" in result.stderr) is (code != 0)


@pytest.mark.parametrize("running", [True, False])
def test_a_broker_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch, *, running: bool) -> None:
    invoke(monkeypatch)
    run = LocalRun(None, None, {}) if running else None
    monkeypatch.setattr(running_stack, "local_run", lambda: run)

    async def fails(_settings: Settings) -> LagReport:
        raise Retryable("connect to the broker: TimeoutError")

    monkeypatch.setattr(lag, "read_lag", fails)
    app = typer.Typer()
    lag.register(app)
    result = CliRunner().invoke(app, [])
    assert result.exit_code == Exit.NOT_RUNNING
    hint = "" if running else "; nothing runs here: `turnstream up` starts it"
    assert result.stderr.splitlines() == [
        f"error: the broker did not answer: connect to the broker: TimeoutError{hint}"
    ]


async def test_ages_are_read_from_the_log_over_gaps(monkeypatch: pytest.MonkeyPatch) -> None:
    log = MemoryLog(partitions=1)
    log.put(PLACE.topic, b"c", b"{}", timestamp_ms=1_000)
    log.leave_gap(PLACE, 3)
    log.put(PLACE.topic, b"c", b"{}", timestamp_ms=9_000)

    async def describe(_settings: object, groups: tuple[str, ...]) -> tuple[GroupDescription, ...]:
        return tuple(GroupDescription(group, "Stable", 1, {PLACE: 1} if group == AUTH else {}) for group in groups)

    async def existing(_reader: LagReader, names: set[str]) -> tuple[TopicPartition, ...]:
        return tuple(TopicPartition(name, 0) for name in sorted(names))

    monkeypatch.setattr(lag_reading, "describe_groups", describe)
    monkeypatch.setattr(lag_reading, "now_ms", lambda: 10_000)
    monkeypatch.setattr(LagReader, "_existing", existing)
    report = await LagReader(Settings(), log.reader()).read()
    ages = {group.group: (group.records, group.age_ms) for group in report.groups}
    assert ages.pop(AUTH) == (4, 1_000)
    assert set(ages.values()) == {(0, 0)}
