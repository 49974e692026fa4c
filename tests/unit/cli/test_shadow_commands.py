"""What the commands of shadow runs say and how they exit; the log is replaced at its seams."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from schemas.errors import Retryable
from schemas.shadow import ShadowBegan, plan_shadow
from turnstream.commands import replay_diff, replay_shadow
from turnstream.commands.exits import Exit
from turnstream.settings import Settings
from turnstream.shadow.differences import Difference, Side

RUN = "shadow-1-ab"
BEGAN = ShadowBegan(
    run_id=RUN,
    source=("chat.turns.prompted.v1",),
    from_stage="moderation",
    until_stage="moderation",
    changes={"policy": "abc-1"},
    began_at_ms=1_795_000_000_000,
)
FLIPPED = Difference(
    run_id=RUN,
    turn_id="turn-1",
    conversation_id="c",
    tenant_id="t",
    user_id="u",
    changes=("decision", "rules"),
    original=Side(outcome="cleared", decision="allowed"),
    shadow=Side(outcome="refused", decision="blocked_input", rules=("r",)),
)
SAME = FLIPPED.model_copy(update={"turn_id": "turn-2", "changes": ()})


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> typer.Typer:
    for module in (replay_diff, replay_shadow):
        monkeypatch.setattr(module, "require_settings", Settings)
    group = typer.Typer()
    replay_shadow.register(group)
    replay_diff.register(group)
    return group


def invoke(app: typer.Typer, *arguments: str) -> Result:
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "200", "NO_COLOR": "1"})


def found(differences: Sequence[Difference]) -> Any:
    async def answer(*_: object) -> replay_diff.Found:
        return replay_diff.Found(BEGAN if differences else None, differences)

    return answer


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--from-stage", "moderation", "--until-stage", "auth"), "auth comes before moderation"),
        (("--from-stage", "moderation", "--until-stage", "sse"), "no such stage: sse"),
        (("--topic", "usage.events.v1"), "a shadow run reads one of chat.turns.submitted.v1"),
        (("--from-stage", "moderation", "--model", "gone"), "no such model: gone"),
        (("--from-stage", "moderation", "--policy", "/nowhere/rules.toml"), "rules.toml cannot be read"),
    ],
)
def test_a_run_that_cannot_be_is_refused_before_anything_is_read(
    app: typer.Typer, arguments: tuple[str, ...], problem: str
) -> None:
    result = invoke(app, "shadow", *arguments)
    assert result.exit_code == Exit.BAD_INPUT
    assert result.stderr.startswith(f"error: {problem}")
    assert len(result.stderr.splitlines()) == 1


def test_a_difference_as_json_and_as_a_table(app: typer.Typer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(replay_diff, "find_differences", found([FLIPPED, SAME]))
    told = json.loads(invoke(app, "diff", RUN, "--json").stdout)
    assert told["run"]["changes"] == {"policy": "abc-1"}
    assert told["summary"]["flips"] == {"allowed -> blocked_input": 1}
    assert [(row["turn_id"], row["flip"]) for row in told["turns"]] == [("turn-1", "allowed -> blocked_input")]
    assert json.loads(invoke(app, "diff", RUN, "--json", "--only", "prompts").stdout)["turns"] == []
    file = tmp_path / "diff.parquet"
    shown = invoke(app, "diff", RUN, "--parquet", str(file))
    assert "turn-1" in shown.stdout
    assert "2 turns in diff.parquet" in shown.stderr
    nowhere = invoke(app, "diff", RUN, "--parquet", "/nowhere/diff.parquet")
    assert (nowhere.exit_code, nowhere.stdout) == (Exit.FAILED, "")


def test_a_run_that_is_not_there(app: typer.Typer, monkeypatch: pytest.MonkeyPatch) -> None:
    async def names(*_: object) -> frozenset[str]:
        return frozenset()

    monkeypatch.setattr(replay_diff, "find_differences", found([]))
    monkeypatch.setattr(replay_diff, "topic_names", names)
    for arguments in (("diff", RUN), ("shadows", "--drop", RUN)):
        result = invoke(app, *arguments)
        assert (result.exit_code, result.stdout) == (Exit.NOT_FOUND, "")
        assert result.stderr.startswith(f"error: no shadow run {RUN}")


def test_a_log_that_does_not_answer(app: typer.Typer, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(*_: object) -> Any:
        raise Retryable("connect to the broker: KafkaConnectionError")

    monkeypatch.setattr(replay_diff, "find_differences", fails)
    monkeypatch.setattr(replay_diff, "topic_names", fails)
    for arguments in (("diff", RUN), ("shadows",), ("shadows", "--drop", RUN)):
        result = invoke(app, *arguments)
        assert result.exit_code == Exit.NOT_RUNNING
        assert result.stderr.startswith("error: connect to the broker: KafkaConnectionError")
        assert len(result.stderr.splitlines()) == 1


def test_runs_are_listed_also_one_whose_record_is_gone(app: typer.Typer, monkeypatch: pytest.MonkeyPatch) -> None:
    async def runs(*_: object) -> dict[str, ShadowBegan | None]:
        return {RUN: BEGAN, "shadow-2-cd": None}

    monkeypatch.setattr(replay_diff, "find_runs", runs)
    first, second = invoke(app, "shadows").stdout.splitlines()
    assert first.endswith("moderation to moderation: policy abc-1")
    assert second.startswith("shadow-2-cd  its record is gone")
    assert set(json.loads(invoke(app, "shadows", "--json").stdout)) == {RUN, "shadow-2-cd"}


def test_a_run_is_deleted_with_all_its_topics_and_audited(app: typer.Typer, monkeypatch: pytest.MonkeyPatch) -> None:
    deleted: list[str] = []
    own = frozenset(plan.name for plan in plan_shadow(RUN, 1))

    async def names(*_: object) -> frozenset[str]:
        return own | {"chat.tokens.v1", "replay.shadow-2-cd.run"}

    async def delete(_: object, topics: Sequence[str]) -> None:
        deleted.extend(topics)

    audit: list[tuple[str, str]] = []

    class Audited:
        def __init__(self, _: object, action: str, subject: str) -> None:
            audit.append((action, subject))

        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(replay_diff, "topic_names", names)
    monkeypatch.setattr(replay_diff, "delete_topics", delete)
    monkeypatch.setattr(replay_diff, "audited", Audited)
    result = invoke(app, "shadows", "--drop", RUN)
    assert result.stdout == f"deleted {len(own)} topics of {RUN}\n"
    assert (frozenset(deleted), audit) == (own, [("replay.drop_shadow", RUN)])
