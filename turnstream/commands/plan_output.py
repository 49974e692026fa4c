"""What ``turnstream plan`` shows: each figure with its formula and inputs, and what the simulation saw."""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from turnstream.capacity.figures import Basis, Figure, Line
from turnstream.capacity.plan import Plan
from turnstream.capacity.scenarios import Bend, Seen, Simulation

_SI: Final = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_WHOLE_FROM: Final = 100
_LINE_SECONDS: Final = 1.0
_HEADINGS: Final = ("fleet", "arrivals", "phase", "load", "turns", "refused", "wait p95", "TTFT p50", "p95", "p99", "")

# What is asked first: a label, the line of the plan, and what to know beside it, with other lines by their names.
_SUMMARY: Final = (
    ("turns at peak", "peak_turns", "{open_streams} open at once"),
    ("GPUs", "gpus", "{region_gpus} in a region"),
    ("our processes", "cores", "{consumers} of them for inference"),
    ("brokers", "brokers", ""),
    ("Cassandra", "store_nodes", ""),
    ("Redis", "cache_nodes", ""),
    ("to clients at peak", "client_bits", ""),
    ("onto the log", "region_log_writes", "in a region, with copies; it keeps {region_log_stored}"),
    ("history", "stored_year", "one copy"),
    ("1,000 turns cost", "cost_1000_turns", "{cost_1000_turns_without_gpus} without the GPUs"),
)


def amount(value: float, unit: str) -> str:
    """A figure for people: bytes and bits with SI prefixes, large numbers in groups of three digits."""
    if unit.startswith(("B", "bit")):
        for factor, prefix in _SI:
            if value >= factor:
                return f"{value / factor:.3g} {prefix}{unit}"
    number = f"{value:,.0f}" if value >= _WHOLE_FROM else f"{value:.3g}"
    return f"{number} {unit}".rstrip()


def summary_lines(plan: Plan, seen: Simulation | None) -> Iterator[str]:
    """What the plan comes to, in as many lines as are read at a glance."""
    told = {line.name: amount(line.value, line.unit) for line in plan.lines}
    rows = [(label, told[name], beside.format(**told)) for label, name, beside in _SUMMARY]
    if seen is not None:
        rows.append(("simulated", "holds" if seen.holds else "misses", f"TTFT p95 below {seen.target_s:g} s"))
    yield "Summary"
    for label, value, beside in rows:
        yield f"  {label:<18} {value:>16}  {beside}".rstrip()
    yield ""


def plan_lines(plan: Plan) -> Iterator[str]:
    """The plan, section by section, and then what it rests on."""
    figures: dict[str, Figure] = {figure.name: figure for figure in (*plan.figures, *plan.lines)}
    for section, lines in groupby(plan.lines, key=lambda line: line.section):
        yield section
        for line in lines:
            yield f"  {line.name:<28} {amount(line.value, line.unit):>18}  {line.says}"
            yield f"      = {line.formula}"
            yield f"      with {'; '.join(_input(figures[name]) for name in line.inputs)}"
        yield ""
    yield from _grounds("Measured or of the contract", plan.figures, {Basis.MEASURED, Basis.CONTRACT})
    yield from _grounds("Given", plan.figures, {Basis.GIVEN})
    yield from _grounds("Assumed: no result of a benchmark yet", plan.figures, {Basis.ASSUMED})


def _input(figure: Figure) -> str:
    basis = "" if isinstance(figure, Line) else f" ({figure.basis})"
    return f"{figure.name} {amount(figure.value, figure.unit)}{basis}"


def _grounds(title: str, figures: Iterable[Figure], bases: set[Basis]) -> Iterator[str]:
    chosen = [figure for figure in figures if figure.basis in bases]
    if not chosen:
        return
    yield title
    for figure in chosen:
        yield f"  {figure.name:<28} {amount(figure.value, figure.unit):>18}  {figure.source}"
    yield ""


def simulation_lines(seen: Simulation) -> Iterator[str]:
    """The table of the simulation and its curve."""
    yield (
        f"Simulation, seed {seen.seed}: {seen.queues_simulated} queues of {seen.slots} slots stand for the"
        f" {seen.queues_per_region:,} of a region, which are alike and independent"
    )
    yield f"  holds: TTFT p95 below {seen.target_s:g} s, and nobody refused"
    yield from _table([_HEADINGS, *(_row(each) for each in seen.seen)])
    yield ""
    for bend in seen.bends:
        yield from _bend_lines(bend, seen.target_s)


def _row(seen: Seen) -> tuple[str, ...]:
    return (
        seen.fleet,
        seen.arrivals,
        seen.phase,
        f"{seen.load:.1%}",
        f"{seen.turns:,}",
        f"{seen.refused_share:.1%}",
        *map(_seconds, (seen.wait_p95_s, seen.ttft_p50_s, seen.ttft_p95_s, seen.ttft_p99_s)),
        "holds" if seen.holds else "misses",
    )


def _bend_lines(bend: Bend, target_s: float) -> Iterator[str]:
    said = (
        "holds at all of these" if bend.breaks_at is None else f"{target_s:g} s are missed from {bend.breaks_at:.1%} on"
    )
    yield f"TTFT p95 by load, queues of {bend.slots} slots, Poisson: {said}"
    yield "  " + "  ".join(f"{each.load:.1%}: {_seconds(each.ttft_p95_s)}" for each in bend.seen)


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"


def _table(rows: list[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


class SimulationProgress:
    """Shows how much is simulated, on standard error: a bar on a terminal, else a JSON line at most once a second."""

    def __init__(
        self, total: int, console: Console | None = None, monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._total = total
        self._console = console or Console(stderr=True)
        self._monotonic_s = monotonic_s
        self._said_s = monotonic_s()
        self._done = 0
        self._bar: Progress | None = None

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            columns = (TextColumn("simulating"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, console=self._console, transient=True)
            self._bar.add_task("simulating", total=self._total)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def step(self) -> None:
        """One queue more is simulated."""
        self._done += 1
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self._done)
        elif self._monotonic_s() - self._said_s >= _LINE_SECONDS:
            self._said_s = self._monotonic_s()
            self._console.file.write(json.dumps({"phase": "simulate", "queues": self._done, "of": self._total}) + "\n")
            self._console.file.flush()
