"""The plan reproduces the known figures, says where everything comes from, and its page says the same."""

import json
from collections import Counter
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from consumers.sse.chat_chunks import ChunkEncoder
from consumers.sse.core import Identity, Piece
from producers.ingest.core import IngestSettings
from schemas import topics
from schemas.cursors import CursorSigner, cursor_key
from turnstream.capacity.assumptions import STATED
from turnstream.capacity.figures import Basis, Figure
from turnstream.capacity.measured import read_rules
from turnstream.capacity.plan import Plan, make_plan
from turnstream.capacity.rows import SECTIONS
from turnstream.commands import plan as plan_command
from turnstream.commands.plan_output import amount, plan_lines

PAGE = Path(__file__).parents[3] / "docs" / "capacity.md"
# As kept on 2026-11-21; fixed here, so that the page stays true when a benchmark is run again.
MEASURED = {
    "edge_token": 51.0,
    "stages_turn": 202.8,
    "inference_token": 170.0,
    "sink_token": 22.4,
    "windows_turn": 1086.0,
    "pipeline_p50": 85.5,
    "pipeline_p99": 245.0,
}


def figures() -> tuple[Figure, ...]:
    return tuple(
        Figure(name=name, value=MEASURED[name], unit=rule.unit, basis=Basis.MEASURED, source="a result")
        if name in MEASURED
        else Figure(name=name, value=rule.assumed, unit=rule.unit, basis=Basis.ASSUMED, source=rule.why)
        for name, rule in read_rules().items()
    )


def plan(**given: float) -> Plan:
    return make_plan(figures(), given)


@pytest.mark.parametrize(
    ("name", "value", "unit"),
    [
        ("peak_turns", "69,444 turns/s", "turns/s"),
        ("open_streams", "20,000,000 streams", "streams"),
        ("client_bits", "6 Gbit/s", "bit/s"),
        ("stored_year", "548 TB/year", "B/year"),
        ("gpus_floor", "17,362 GPUs", "GPUs"),
    ],
)
def test_the_known_figures(name: str, value: str, unit: str) -> None:
    assert amount(plan()[name], unit) == value


def test_the_known_figures_are_exact_not_rounded_into_place() -> None:
    made = plan()
    assert made["peak_turns"] == pytest.approx(6e9 / 86_400)
    assert made["stream_seconds"] == pytest.approx(288)
    assert made["answer_bytes"] == pytest.approx(10_800)
    assert made["client_bits"] == pytest.approx(6e9)
    assert made["stored_bytes"] == pytest.approx(600)
    assert made["stored_year"] == pytest.approx(547.5e12)


def test_the_quoted_gpus_are_the_floor_and_leave_nothing_for_a_lost_region() -> None:
    made = plan()
    assert made["gpus_known_load"] == pytest.approx(0.992, abs=1e-3)
    assert made["gpus_known_load_lost"] == pytest.approx(1.19, abs=1e-2)
    assert made["gpus"] > made["gpus_known"]


def test_every_line_names_its_inputs_and_every_name_is_one_figure() -> None:
    made = plan()
    names = Counter(figure.name for figure in (*STATED, *figures(), *made.lines))
    assert max(names.values()) == 1
    for line in made.lines:
        assert line.inputs
        assert set(line.inputs) <= names.keys()


def test_every_assumption_is_used_and_says_why() -> None:
    made = plan()
    used = {name for line in made.lines for name in line.inputs}
    of_the_simulation = {
        "answer_tokens_cv", "prompt_tokens_cv", "pipeline_p50", "pipeline_p99",
        "ttft_target", "queue_seconds_max", "failover_seconds", "burst_cv", "burst_seconds",
    }  # fmt: skip
    assert {figure.name for figure in made.figures} - used == of_the_simulation
    assert all(figure.source for figure in made.figures)


def test_the_fleet_carries_the_peak_without_the_lost_region() -> None:
    made = plan()
    assert made["gpu_load_lost"] <= made.values["gpu_utilisation"]
    assert made["region_gpus"] * made["regions_left"] * made["gpu_turns"] >= made["peak_turns"]


def test_twice_the_users_need_twice_the_machines() -> None:
    once, twice = plan(), plan(daily_users=400e6, prompts_per_day=5e9)
    for name in ("client_bits", "stored_year", "gpus", "cores", "brokers", "store_nodes", "gpu_cost"):
        assert twice[name] == pytest.approx(2 * once[name], rel=0.05), name
    assert twice["cost_1000_turns"] == pytest.approx(once["cost_1000_turns"], rel=0.01)


def test_a_region_of_few_users_still_has_every_copy() -> None:
    made = plan(daily_users=1_000, prompts_per_day=10_000, regions=1, regions_lost=0)
    assert (made["brokers"], made["edges"], made["gpus"]) == (3, 1, 1)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("unheard_of", 1, "not a figure"),
        ("peak_turns", 1, "not a figure"),
        ("regions", 2.5, "whole number"),
        ("regions", 0, "above 0"),
        ("regions_lost", 6, "nobody would be left"),
        ("gpu_utilisation", 1.2, "at most 1"),
        ("prompts_per_day", float("inf"), "above 0"),
    ],
)
def test_what_cannot_be_planned_is_refused(name: str, value: float, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        plan(**{name: value})


def test_what_is_given_is_marked() -> None:
    (given,) = [figure for figure in plan(edge_token=10).figures if figure.basis is Basis.GIVEN]
    assert (given.name, given.value, given.unit) == ("edge_token", 10, "us/token")


def test_assumptions_about_our_own_code_are_true() -> None:
    stated = {figure.name: figure.value for figure in STATED}
    signer = CursorSigner(cursor_key(b"pepper"), "01m7q5ffcg002gg28a1c60t3gf", "tenant", "user")
    stored = Identity(
        "01m7q5ffcg002gg28a1c60t3gf", 1_700_000_000, "turnstream-fast", "fp_0123456789",
        "conv_01m7q5awx0000g40r40m30e209",
    )  # fmt: skip
    frame = ChunkEncoder(stored, signer, include_usage=False).piece(Piece("", 42, 123_456_789))
    assert len(frame) == pytest.approx(stated["frame_bytes"], rel=0.05)
    assert IngestSettings().queue_seconds_max == stated["queue_seconds_max"]
    assert topics.TOKENS.retention_hours == stated["retention_tokens"]


def test_the_page_shows_every_formula_with_its_value() -> None:
    page = PAGE.read_text(encoding="utf-8").splitlines()
    made = plan()
    rows = [
        f"| `{line.name}` | {amount(line.value, line.unit)} | `{line.formula}` | {line.says} |" for line in made.lines
    ]
    assert [line for line in page if line.startswith(tuple(f"| `{name}` |" for name in names_of_rows()))] == rows


def test_the_command_on_the_page_gives_the_figures_on_the_page() -> None:
    text = PAGE.read_text(encoding="utf-8").replace("\\\n", "")
    (line,) = [line for line in text.splitlines() if line.startswith("turnstream plan") and "edge_token" in line]
    app = typer.Typer()
    plan_command.register(app)
    result = CliRunner().invoke(app, [*line.split()[2:], "--json"])
    assert result.exit_code == 0
    computed = {line["name"]: line["value"] for line in json.loads(result.stdout)["lines"]}
    assert computed == pytest.approx({line.name: line.value for line in plan().lines})


@pytest.mark.parametrize(
    ("label", "name", "unit"),
    [
        ("GPUs", "gpus", ""),
        ("inference consumers", "consumers", "cores"),
        ("edges", "edges", "cores"),
        ("Cassandra sinks", "sinks", "cores"),
        ("windows", "windows", "cores"),
        ("processors", "processors", "cores"),
        ("usage sinks", "usage_sinks", "cores"),
        ("brokers", "brokers", ""),
        ("Cassandra nodes", "store_nodes", ""),
        ("Redis nodes", "cache_nodes", ""),
    ],
)
def test_the_page_sums_up_what_the_formulas_say(label: str, name: str, unit: str) -> None:
    total = plan()[name]
    row = f"| {label} | {f'{total:,.0f} {unit}'.rstrip()} | {total / 6:,.0f} |"
    assert row in PAGE.read_text(encoding="utf-8").splitlines()


def test_the_page_lists_every_assumption() -> None:
    page = PAGE.read_text(encoding="utf-8").splitlines()
    assumed = [figure for figure in plan().figures if figure.name not in MEASURED]
    rows = [f"| `{figure.name}` | {amount(figure.value, figure.unit)} | {figure.source} |" for figure in assumed]
    assert not [row for row in rows if row not in page]


def names_of_rows() -> list[str]:
    return [row.name for rows in SECTIONS.values() for row in rows]


def test_people_see_formula_inputs_and_grounds() -> None:
    text = "\n".join(plan_lines(plan(regions=3)))
    assert "= mean_turns * peak_factor\n      with mean_turns 28,935 turns/s; peak_factor 2.4 (assumed)" in text
    assert "edge_token 51 us/token (measured)" in text
    assert "regions 3 regions (given)" in text
    for title in ("Measured or of the contract", "Given", "Assumed: no result of a benchmark yet"):
        assert f"\n{title}\n" in text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0, "", "0"),
        (0.992, "", "0.992"),
        (17_361.1, "GPUs", "17,361 GPUs"),
        (999, "B", "999 B"),
        (1.5e9, "bit/s", "1.5 Gbit/s"),
        (547.5e12, "B/year", "548 TB/year"),
    ],
)
def test_amounts_are_readable(value: float, unit: str, text: str) -> None:
    assert amount(value, unit) == text
