"""A report on a terminal."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import groupby

from rich.console import Console, Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from turnstream.trace.report import Step, TurnReport


def render(report: TurnReport, console: Console, *, every_delta: bool = False) -> None:
    """Print the report; runs of deltas of one attempt are one line unless ``every_delta``."""
    steps = _steps_table(report.steps, every_delta=every_delta)
    console.print(Group(_summary(report), "", steps, "", _stages_table(report)))


def _summary(report: TurnReport) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    usage = report.usage
    owner = f"{report.tenant_id}/{report.user_id}" if report.user_id else None
    rows = (
        ("turn", report.turn_id),
        ("conversation", report.conversation_id),
        ("submitted", _time(report.submitted_at_ms)),
        ("account", owner),
        ("model", " on ".join(part for part in (report.model, report.pool) if part)),
        ("outcome", report.outcome),
        ("moderation", report.decision),
        ("tokens", f"{usage.prompt_tokens} prompt, {usage.completion_tokens} completion" if usage else None),
        ("persisted", "yes" if report.persisted else "no"),
        *(("attempt", f"{each.attempt} by {each.owner}: {each.tokens} tokens") for each in report.attempts),
    )
    for name, value in rows:
        if value:
            table.add_row(Text(name, style="dim"), Text(value))
    return table


def _steps_table(steps: Sequence[Step], *, every_delta: bool) -> Table:
    columns = (Column("+ms", justify="right"), Column("stage", no_wrap=True), Column("record", no_wrap=True), "what")
    table = Table(*columns, box=None, header_style="dim")
    for run in _runs(steps) if not every_delta else ([step] for step in steps):
        _add_run(table, run)
    return table


def _runs(steps: Sequence[Step]) -> Iterator[list[Step]]:
    """Neighbouring deltas together, everything else alone."""
    for is_delta, group in groupby(steps, key=lambda step: step.event == "Delta" and step.counted):
        run = list(group)
        if is_delta:
            yield run
        else:
            yield from ([step] for step in run)


def _add_run(table: Table, run: Sequence[Step]) -> None:
    first, last = run[0], run[-1]
    offsets, what = str(first.offset), first.what
    if len(run) > 1:
        offsets = f"{first.offset}..{last.offset}"
        what = f"{len(run)} deltas until +{last.since_submitted_ms} ms"
    if not first.counted:
        what += " (does not count)"
    # Texts, not markup: an owner's name or an error code may hold brackets.
    record = f"{first.topic}/{first.partition}@{offsets}"
    cells = map(Text, (str(first.since_submitted_ms), first.stage, record, what))
    table.add_row(*cells, style=None if first.counted else "dim")


def _stages_table(report: TurnReport) -> Table:
    table = Table("stage", "ms", box=None, header_style="dim")
    table.columns[1].justify = "right"
    for stage in report.stages:
        table.add_row(Text(stage.stage), str(stage.duration_ms))
    return table


def _time(unix_ms: int) -> str:
    return datetime.fromtimestamp(unix_ms / 1000, UTC).isoformat(sep=" ", timespec="milliseconds")
