"""``turnstream plan``: how much of everything a number of users needs, and whether its queues keep their promise."""

import json
import math
import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer

from turnstream.capacity.measured import RESULTS, read_measured
from turnstream.capacity.plan import Plan, make_plan
from turnstream.capacity.scenarios import Simulation, fleets_of, run_simulation, steps_of
from turnstream.commands.exits import Exit, fail
from turnstream.commands.plan_output import SimulationProgress, plan_lines, simulation_lines, summary_lines

Dau = Annotated[float | None, typer.Option("--dau", help="Users a day, such as 200e6.")]
Prompts = Annotated[float | None, typer.Option("--prompts-per-day", help="Turns a day, such as 2.5e9.")]
Regions = Annotated[float | None, typer.Option("--regions", help="Regions, all alike.")]
PeakFactor = Annotated[float | None, typer.Option("--peak-factor", help="Turns a second at peak over their mean.")]
SetFigure = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=NUMBER", help="Any other figure; may be given often.")
]
Assumptions = Annotated[
    Path | None, typer.Option("--assumptions", metavar="FILE", help="TOML: one NAME = NUMBER a line.")
]
Results = Annotated[Path, typer.Option("--results", help="Where the benchmarks keep results.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, with every figure.")]
Simulate = Annotated[bool, typer.Option("--simulate", help="Simulate the GPU queues at peak.")]
FailRegion = Annotated[bool, typer.Option("--fail-region", help="With --simulate: a region fails at peak.")]
Seed = Annotated[int, typer.Option("--seed", help="The same seed gives the same simulation.")]
Gpus = Annotated[int | None, typer.Option("--gpus", min=1, help="The fleet to simulate beside the planned one.")]
QueueSlots = Annotated[int | None, typer.Option("--queue-slots", min=1, help="Slots that share one queue.")]


def register(app: typer.Typer) -> None:
    """Add the ``plan`` command to ``app``."""
    app.command()(plan)


def plan(
    *,
    dau: Dau = None,
    prompts_per_day: Prompts = None,
    regions: Regions = None,
    peak_factor: PeakFactor = None,
    set_figures: SetFigure = None,
    assumptions: Assumptions = None,
    results: Results = RESULTS,
    as_json: AsJson = False,
    simulate: Simulate = False,
    fail_region: FailRegion = False,
    seed: Seed = 1,
    gpus: Gpus = None,
    queue_slots: QueueSlots = None,
) -> None:
    """Plan machines, storage and cost for a scale. Exit code 1: simulated, the planned fleet misses its target."""
    if not simulate and (fail_region or gpus or queue_slots):
        fail("--fail-region, --gpus and --queue-slots say what to simulate: add --simulate", Exit.BAD_INPUT)
    named = {
        "daily_users": dau,
        "prompts_per_day": prompts_per_day,
        "regions": regions,
        "peak_factor": peak_factor,
    }
    made = _plan(assumptions, set_figures or [], named, results)
    if fail_region and made["regions_left"] == made["regions"]:
        fail("nothing can fail: --fail-region needs two regions and a regions_lost above 0", Exit.BAD_INPUT)
    seen = None
    if simulate:
        with SimulationProgress(total=steps_of(len(fleets_of(made, gpus)))) as progress:
            seen = run_simulation(
                made, seed, fail_region=fail_region, gpus=gpus, queue_slots=queue_slots, on_done=progress.step
            )
    _show(made, seen, as_json=as_json)
    if seen is not None and not seen.holds:
        fail(f"the planned fleet does not keep TTFT p95 below {seen.target_s:g} s")


def _plan(file: Path | None, texts: list[str], named: dict[str, float | None], results: Path) -> Plan:
    if results != RESULTS and not results.is_dir():
        fail(f"{results} is not a folder with results", Exit.BAD_INPUT)
    try:
        given = _from_file(file) if file is not None else {}
        given |= dict(_pair(text) for text in texts)
        given |= {name: value for name, value in named.items() if value is not None}
        return make_plan(read_measured(results), given)
    except OSError as error:
        fail(f"{error.filename} cannot be read: {error.strerror}", Exit.BAD_INPUT)
    except ValueError as error:
        fail(str(error), Exit.BAD_INPUT)


def _pair(text: str) -> tuple[str, float]:
    name, equals, number = text.partition("=")
    try:
        value = float(number) if equals else math.nan
    except ValueError:
        value = math.nan
    if math.isnan(value):
        raise ValueError(f"--set takes NAME=NUMBER, not {text!r}")
    return name.strip(), value


def _from_file(file: Path) -> dict[str, float]:
    try:
        found: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: {error}") from None
    for name, value in found.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{file}: {name} must be a number")  # noqa: TRY004 - of a file, not of a caller
    return {name: float(value) for name, value in found.items()}


def _show(made: Plan, seen: Simulation | None, *, as_json: bool) -> None:
    if as_json:
        simulation = None if seen is None else seen.model_dump(mode="json")
        typer.echo(json.dumps({**made.model_dump(mode="json"), "simulation": simulation}, indent=2))
        return
    for line in (*summary_lines(made, seen), *plan_lines(made), *(simulation_lines(seen) if seen else ())):
        typer.echo(line)
