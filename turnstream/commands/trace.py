"""``turnstream trace``: the way of one turn, from the log."""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Final

import typer
from rich.console import Console

from schemas.errors import Fatal, Retryable
from schemas.ids import parse_turn_id
from schemas.ports import TopicPartition
from turnstream.commands.exits import Exit, fail
from turnstream.commands.running_stack import require_settings
from turnstream.log.kafka_log_reader import KafkaLogReader
from turnstream.log.kafka_topics import TopicState, describe_topics
from turnstream.settings import Settings
from turnstream.trace.rendering import render
from turnstream.trace.report import build_report
from turnstream.trace.search import Found, TraceSettings, find_records
from turnstream.wiring.topics import planned_topics

_MINUTE_MS: Final = 60_000
WINDOW_MINUTES: Final = TraceSettings().window_ms // _MINUTE_MS

TurnId = Annotated[str, typer.Argument(help="The turn, with or without `chatcmpl-`.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
EveryDelta = Annotated[bool, typer.Option("--all", help="One line per delta.")]
Window = Annotated[int, typer.Option("--window-minutes", min=1, max=10_080, help="How long after its start to look.")]


def register(app: typer.Typer) -> None:
    """Add the ``trace`` command to ``app``."""
    app.command()(trace)


def trace(
    turn_id: TurnId,
    *,
    as_json: AsJson = False,
    every_delta: EveryDelta = False,
    window_minutes: Window = WINDOW_MINUTES,
) -> None:
    """Show every record of a turn, its stages, attempts and tokens, without content. Exit code 4: no such turn."""
    show_trace(turn_id, as_json=as_json, every_delta=every_delta, window_minutes=window_minutes)


def show_trace(
    turn_id: str, *, as_json: bool = False, every_delta: bool = False, window_minutes: int = WINDOW_MINUTES
) -> None:
    """Print the way of a turn. Ends the command when the id is malformed or nothing is on the log."""
    try:
        bare_id = parse_turn_id(turn_id)
    except ValueError as error:
        fail(f"not a turn id: {error}", Exit.BAD_INPUT)
    search = TraceSettings(window_ms=window_minutes * _MINUTE_MS)
    found = _find(require_settings(), bare_id, search)
    report = build_report(bare_id, found.records)
    if report is None:
        fail(f"no record of turn {bare_id} on the log: unknown, or older than retention", Exit.NOT_FOUND)
    if as_json:
        typer.echo(report.model_dump_json(indent=2))
    else:
        render(report, Console(), every_delta=every_delta)
    for partition in found.cut_off:
        typer.echo(f"note: {partition.topic}/{partition.partition} was not read to the end of the window", err=True)


def _find(settings: Settings, turn_id: str, search: TraceSettings) -> Found:
    found: Found | None = None
    reason = ""
    try:
        found = asyncio.run(_search(settings, turn_id, search))
    except* (Retryable, Fatal) as group:
        reason = str(group.exceptions[0])
    if found is None:
        fail(f"the log could not be read: {reason}", Exit.NOT_RUNNING)
    return found


async def _search(settings: Settings, turn_id: str, search: TraceSettings) -> Found:
    partitions = _partitions(await describe_topics(settings.kafka, planned_topics(settings)))
    async with KafkaLogReader(settings.kafka) as reader:
        return await find_records(reader, partitions, turn_id, search)


def _partitions(states: Sequence[TopicState]) -> list[TopicPartition]:
    """Every partition that exists."""
    return [TopicPartition(state.plan.name, number) for state in states for number in range(state.partitions or 0)]
