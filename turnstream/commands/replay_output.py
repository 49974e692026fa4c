"""What ``turnstream replay`` shows: the plan, how far it is, and what came of it."""

import json
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from producers.replay import plan as planning
from producers.replay.plan import Plan
from producers.replay.run import Summary
from turnstream.commands.moments import moment_text

LINE_SECONDS: Final = 1.0
_RANGES_SHOWN_MAX: Final = 20


class ProgressDisplay:
    """Shows progress on standard error: a bar on a terminal, else one JSON object a line, at most one a second."""

    def __init__(self, console: Console | None = None, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._console = console or Console(stderr=True)
        self._monotonic_s = monotonic_s
        self._said_s = monotonic_s()
        self._bar: Progress | None = None
        self._tasks: dict[str, int] = {}

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, console=self._console, transient=True)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, progress: planning.Progress) -> None:
        """Show how far it is."""
        if self._bar is not None:
            self._draw(self._bar, progress)
        elif self._monotonic_s() - self._said_s >= LINE_SECONDS:
            self._said_s = self._monotonic_s()
            line = {
                "phase": progress.phase,
                "offsets": progress.done,
                "offsets_total": progress.total,
                "selected": progress.selected,
            }
            self._console.file.write(json.dumps(line) + "\n")
            self._console.file.flush()

    def _draw(self, bar: Progress, progress: planning.Progress) -> None:
        if progress.phase not in self._tasks:
            self._tasks[progress.phase] = bar.add_task(progress.phase, total=progress.total)
        task = next(each for each in bar.task_ids if each == self._tasks[progress.phase])
        bar.update(task, completed=progress.done, total=progress.total)


def show_plan(plan: Plan, *, as_json: bool) -> None:
    """Print ``plan`` on standard output."""
    if as_json:
        # The turns that were looked up are many and say nothing that their number does not.
        typer.echo(plan.model_dump_json(indent=2, exclude={"selection": {"turns"}}, exclude_none=True))
        return
    for line in plan_lines(plan):
        typer.echo(line)


def plan_lines(plan: Plan) -> list[str]:
    """The plan in words."""
    ranges = [
        f"  {each.partition.topic}/{each.partition.partition}: {each.selected} records"
        f" of the offsets {each.start} to {each.stop - 1}"
        for each in plan.ranges
        if each.selected
    ]
    more = len(ranges) - _RANGES_SHOWN_MAX
    span = (
        "none"
        if plan.first_ms is None or plan.last_ms is None
        else f"{moment_text(plan.first_ms)} UTC to {moment_text(plan.last_ms)} UTC"
    )
    return [
        f"topic       {plan.selection.topic}",
        f"records     {plan.selected} selected of {plan.scanned} read",
        f"time span   {span}",
        f"turns       {plan.turns}",
        f"tokens      {plan.prompt_tokens} in, at most {plan.completion_tokens_max} out",
        f"cost        {_cost(plan)}",
        f"partitions  {len(ranges)}",
        *ranges[:_RANGES_SHOWN_MAX],
        *([f"  and {more} more"] if more > 0 else []),
    ]


def _cost(plan: Plan) -> str:
    if plan.unpriced and not plan.cost_usd:
        return f"unknown: {plan.unpriced} records name no model with a price"
    without = f", without {plan.unpriced} records that name no model with a price" if plan.unpriced else ""
    return f"at most ${plan.cost_usd:.4f} if every turn were asked again{without}"


def show_summary(summary: Summary, seconds: float, *, as_json: bool) -> None:
    """Print what came of a run on standard output."""
    if as_json:
        typer.echo(json.dumps({**summary.model_dump(), "seconds": round(seconds, 3)}))
        return
    before = f", after {summary.before} before it was resumed" if summary.before else ""
    typer.echo(f"{summary.mode} {summary.run_id}: {summary.records} records in {seconds:.1f} s{before}")
    for name, number in summary.counts.items():
        typer.echo(f"  {name.replace('_', ' ')}: {number}")


def note(message: str) -> None:
    """A line beside the answer, on standard error."""
    typer.echo(message, err=True)
