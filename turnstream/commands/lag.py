"""``turnstream lag``: how far every consumer group is behind the log."""

import asyncio
from collections.abc import Iterator
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from schemas.errors import Fatal, Retryable
from turnstream.commands.exits import fail
from turnstream.commands.running_stack import fail_unreachable, require_settings
from turnstream.insight.lag import GroupLag, LagReport, beyond
from turnstream.insight.lag_reading import read_lag
from turnstream.settings import Settings

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, with every partition.")]
ByPartition = Annotated[bool, typer.Option("--by-partition", help="One line per partition.")]
SecondsMax = Annotated[float | None, typer.Option("--max-seconds", min=0, help="Exit code 1 if a group is older.")]
RecordsMax = Annotated[int | None, typer.Option("--max-records", min=0, help="Exit code 1 if a group has more left.")]


def register(app: typer.Typer) -> None:
    """Add the ``lag`` command to ``app``."""
    app.command()(lag)


def lag(
    *,
    as_json: AsJson = False,
    by_partition: ByPartition = False,
    seconds_max: SecondsMax = None,
    records_max: RecordsMax = None,
) -> None:
    """Show how far every consumer group is behind, in records and seconds. Exit code 1: further than allowed."""
    report = _report(require_settings())
    if as_json:
        typer.echo(report.model_dump_json(indent=2))
    else:
        Console().print(_table(report, by_partition=by_partition))
    problems = beyond(report, seconds_max=seconds_max, records_max=records_max)
    if problems:
        fail("; ".join(problems))


def _report(settings: Settings) -> LagReport:
    report: LagReport | None = None
    reason = ""
    try:
        report = asyncio.run(read_lag(settings))
    except* (Retryable, Fatal) as group:
        reason = str(group.exceptions[0])
    if report is None:
        fail_unreachable(f"the broker did not answer: {reason}")
    return report


def _table(report: LagReport, *, by_partition: bool) -> Table:
    numbers = (Column(name, justify="right", min_width=len(name)) for name in ("members", "left", "behind"))
    texts = (Column(name, overflow="fold") for name in ("group", "topic"))
    table = Table(*texts, *numbers, box=None, header_style="dim", padding=(0, 1, 0, 0), pad_edge=False)
    for group in report.groups:
        for row in _rows(group, by_partition=by_partition):
            table.add_row(*map(Text, row), style=None if group.members else "red")
    return table


def _rows(group: GroupLag, *, by_partition: bool) -> Iterator[tuple[str, str, str, str, str]]:
    members = str(group.members) if group.members else f"none ({group.state})"
    for topic in group.topics:
        yield group.group, topic.topic, members, str(topic.records), age_words(topic.age_ms)
        for one in topic.partitions if by_partition else ():
            committed = f"{'none' if one.committed is None else one.committed} of {one.end}"
            yield "", f"  {one.topic}/{one.partition}", committed, str(one.records), age_words(one.age_ms)


def age_words(age_ms: int | None) -> str:
    """How long ago, for people."""
    if age_ms is None:
        return "unknown"
    return f"{age_ms / 1000:.1f} s" if age_ms else "-"
