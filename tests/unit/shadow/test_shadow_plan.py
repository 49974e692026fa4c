"""What a run is: its changes, its record, its topics."""

import re
from pathlib import Path

import pytest

from consumers.inference.chat_template import Template
from producers.replay.checkpoint import RunRecord
from producers.replay.plan import Plan
from producers.replay.selection import Selection
from schemas import shadow
from schemas.topics import ALL_TOPICS, TOKENS, TURNS_PROMPTED, USAGE_ROLLUPS
from tests.support.turn_events import prompted, turn, user
from turnstream.settings import Settings
from turnstream.shadow.changes import Changes
from turnstream.shadow.plan import options_of, plan_of, stage_of

RULES = '[[deny]]\nid = "r"\ncategory = "c"\nterms = ["zebra"]\n'
RUN = "shadow-1-ab"


def record(options: dict[str, str], topic: str = TURNS_PROMPTED.name) -> RunRecord:
    plan = Plan(selection=Selection(topic=topic), ranges=())
    return RunRecord(run_id=RUN, mode="shadow", plan=plan, options=options, started_ms=5)


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    file = tmp_path / "rules.toml"
    file.write_text(RULES)
    return file


def test_the_files_replace_what_the_deployment_has(rules: Path, tmp_path: Path) -> None:
    text = tmp_path / "system.txt"
    text.write_text("Answer in verse.\n")
    settings = Changes(policy=rules, system=text, template=Template.LLAMA3).applied(Settings())
    assert settings.moderation.rules_files == (rules,)
    assert settings.prompt.system_messages == ("Answer in verse.",)
    assert {pool.template for pool in settings.pools.values()} == {Template.LLAMA3}


def test_a_run_is_the_same_after_its_record_and_tells_no_text(rules: Path, tmp_path: Path) -> None:
    text = tmp_path / "system.txt"
    text.write_text("my private words")
    changes = Changes(policy=rules, system=text, model="capable")
    options = dict(options_of(Settings(), changes, "moderation", 4))
    assert "private" not in str(options)
    plan = plan_of(Settings(), record(options))
    assert (plan.began.from_stage, plan.began.until_stage, plan.in_flight_max) == ("moderation", "moderation", 4)
    assert plan.settings == changes.applied(Settings())
    assert set(plan.began.changes) == {"policy", "system", "model"}
    routed = plan.route(prompted(turn(1), user("hello")))
    assert (routed.served_model, routed.pool, routed.fallbacks) == ("turnstream-capable", "capable", ())


def test_a_file_that_changed_meanwhile_is_another_run(rules: Path) -> None:
    options = dict(options_of(Settings(), Changes(policy=rules), "moderation", 4))
    rules.write_text(RULES.replace("zebra", "giraffe"))
    with pytest.raises(ValueError, match="--policy has changed"):
        plan_of(Settings(), record(options))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"model": "gone"}, "no such model: gone; there are turnstream-fast"),
        ({"pool": "gone"}, "no such pool: gone; there are fast"),
        ({"policy": Path("/nowhere/rules.toml")}, "rules.toml cannot be read"),
        ({"system": Path("/nowhere/system.txt")}, "system.txt cannot be read"),
    ],
)
def test_what_cannot_be_done_is_said(changes: dict[str, object], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        options_of(Settings(), Changes.model_validate(changes), "moderation", 1)


def test_a_run_begins_with_the_stage_that_reads_its_source() -> None:
    assert stage_of(TURNS_PROMPTED.name) == "moderation"
    assert stage_of("inference.requests.fast.v1") == "inference"
    for topic in (TOKENS, USAGE_ROLLUPS):
        with pytest.raises(ValueError, match="a shadow run reads one of"):
            stage_of(topic.name)


def test_the_topics_of_a_run_are_its_own() -> None:
    plans = shadow.plan_shadow(RUN, 1)
    names = [plan.name for plan in plans]
    assert {shadow.run_of(name) for name in names} == {RUN}
    assert shadow.manifest_topic(RUN) in names
    assert all(re.fullmatch(r"[a-zA-Z0-9._-]{1,249}", name) for name in names)
    assert {shadow.run_of(topic.name) for topic in ALL_TOPICS} == {None}
    assert shadow.run_of("replay.x.other.v1") is None
    with pytest.raises(ValueError, match="does not write"):
        shadow.shadow_topic(RUN, "chat.turns.submitted.v1")
