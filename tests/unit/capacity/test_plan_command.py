"""``turnstream plan`` from the outside: options, files, JSON, exit codes."""

import io
import json
from functools import partial
from pathlib import Path

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner, Result

from turnstream.capacity.scenarios import Budget, run_simulation
from turnstream.commands import plan as command
from turnstream.commands.exits import Exit
from turnstream.commands.plan_output import SimulationProgress

app = typer.Typer()
command.register(app)
app.callback()(lambda: None)


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["plan", *arguments])


def values(result: Result) -> dict[str, float]:
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    return {figure["name"]: figure["value"] for figure in (*document["figures"], *document["lines"])}


@pytest.fixture
def _few_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "run_simulation", partial(run_simulation, budget=Budget(queues=2, normal_s=20.0)))


def test_the_target_scale_as_the_readme_has_it() -> None:
    result = invoke("--dau", "200e6", "--prompts-per-day", "2.5e9", "--regions", "6")
    assert result.exit_code == 0
    for text in ("69,444 turns/s", "20,000,000 streams", "6 Gbit/s", "548 TB/year"):
        assert text in result.stdout


def test_a_summary_that_fits_a_terminal_comes_first() -> None:
    result = invoke("--dau", "200e6", "--prompts-per-day", "2.5e9", "--regions", "6")
    first, *rows = result.stdout.partition("\n\n")[0].splitlines()
    assert first == "Summary"
    assert [row[2:20].rstrip() for row in rows] == [
        "turns at peak", "GPUs", "our processes", "brokers", "Cassandra", "Redis", "to clients at peak", "onto the log",
        "history", "1,000 turns cost",
    ]  # fmt: skip
    assert "27,780 GPUs" in rows[1]
    assert max(map(len, rows)) <= 80
    document = json.loads(invoke("--json").stdout)
    assert set(document) == {"figures", "lines", "simulation"}


def test_options_go_before_set_and_set_before_the_file(tmp_path: Path) -> None:
    file = tmp_path / "ours.toml"
    file.write_text("regions = 2\ngpu_slots = 8\npeak_factor = 3\n")
    seen = values(
        invoke("--assumptions", str(file), "--set", "gpu_slots=16", "--set", "regions=4", "--regions", "5", "--json")
    )
    assert (seen["regions"], seen["gpu_slots"], seen["peak_factor"]) == (5, 16, 3)


def test_json_names_formula_inputs_and_source() -> None:
    document = json.loads(invoke("--json").stdout)
    line = next(line for line in document["lines"] if line["name"] == "peak_turns")
    assert (line["formula"], line["inputs"], line["unit"]) == (
        "mean_turns * peak_factor", ["mean_turns", "peak_factor"], "turns/s",
    )  # fmt: skip
    edge = next(figure for figure in document["figures"] if figure["name"] == "edge_token")
    assert edge["basis"] == "measured"
    assert "end-to-end" in edge["source"]
    assert document["simulation"] is None


def test_without_results_everything_is_assumed(tmp_path: Path) -> None:
    document = json.loads(invoke("--json", "--results", str(tmp_path)).stdout)
    assert "measured" not in {figure["basis"] for figure in document["figures"]}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--set", "unheard_of=1"), "unheard_of is not a figure"),
        (("--set", "gpu_slots"), "NAME=NUMBER"),
        (("--set", "gpu_slots=many"), "NAME=NUMBER"),
        (("--regions", "0"), "regions must be"),
        (("--assumptions", "no/such/file.toml"), "cannot be read"),
        (("--results", "no/such/folder"), "not a folder"),
        (("--fail-region",), "add --simulate"),
        (("--simulate", "--fail-region", "--regions", "1"), "nothing can fail"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_code_2(arguments: tuple[str, ...], told: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code == Exit.BAD_INPUT
    assert told in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("text", ["regions = ", 'regions = "6"', "[fleet]\nregions = 6", "regions = true"])
def test_a_file_that_is_no_list_of_numbers_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "ours.toml"
    file.write_text(text)
    result = invoke("--assumptions", str(file))
    assert result.exit_code == Exit.BAD_INPUT
    assert "ours.toml" in result.stderr


@pytest.mark.usefixtures("_few_turns")
def test_the_simulation_is_shown_and_repeatable() -> None:
    # So few turns have a steady p95 only where prompts hardly differ.
    calm = ("--set", "prompt_tokens_cv=0.2", "--set", "gpu_utilisation=0.5")
    first, again = (invoke("--simulate", "--fail-region", "--seed", "3", "--gpus", "20000", *calm) for _ in range(2))
    assert first.exit_code == 0, first.stderr
    assert first.stdout == again.stdout
    assert "seed 3" in first.stdout
    assert "simulated" in first.stdout.partition("\n\n")[0]
    assert "20,000 GPUs" in first.stdout
    assert "1 lost" in first.stdout


@pytest.mark.usefixtures("_few_turns")
def test_a_fleet_that_is_too_small_is_an_exit_code() -> None:
    result = invoke("--simulate", "--set", "gpu_utilisation=1", "--fail-region", "--json")
    assert result.exit_code == Exit.FAILED
    assert "TTFT p95" in result.stderr
    assert json.loads(result.stdout)["simulation"]["seed"] == 1


def test_progress_is_a_json_line_a_second_without_a_terminal() -> None:
    file = io.StringIO()
    now = iter([0.0, 0.5, 1.5, 1.5])
    with SimulationProgress(3, Console(file=file), lambda: next(now)) as progress:
        progress.step()
        progress.step()
    assert [json.loads(line) for line in file.getvalue().splitlines()] == [{"phase": "simulate", "queues": 2, "of": 3}]


def test_progress_is_a_bar_on_a_terminal() -> None:
    file = io.StringIO()
    with SimulationProgress(2, Console(file=file, force_terminal=True)) as progress:
        progress.step()
        progress.step()
    assert "simulating" in file.getvalue()
