"""``turnstream trace``: the way of one turn, from the log."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
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
_UNKNOWN: Final = "no record of turn {} on the log: unknown, or older than retention"
WINDOW_MINUTES: Final = TraceSettings().window_ms // _MINUTE_MS

TurnId = Annotated[str, typer.Argument(help="The turn, with or without `chatcmpl-`.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
EveryDelta = Annotated[bool, typer.Option("--all", help="One line per delta.")]
Otlp = Annotated[str | None, typer.Option("--otlp", help="Send it as spans to a collector, http://HOST:4318.")]
OtlpJson = Annotated[
    Path | None, typer.Option("--otlp-json", help="Write it as spans to a file, as OTLP's JSON; - prints them.")
]
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
    otlp: Otlp = None,
    otlp_json: OtlpJson = None,
) -> None:
    """Show every record of a turn, its stages, attempts and tokens, without content. Exit code 4: no such turn."""
    if otlp is not None or otlp_json is not None:
        export_trace(turn_id, url=otlp, file=otlp_json, window_minutes=window_minutes)
        return
    show_trace(turn_id, as_json=as_json, every_delta=every_delta, window_minutes=window_minutes)


def show_trace(
    turn_id: str, *, as_json: bool = False, every_delta: bool = False, window_minutes: int = WINDOW_MINUTES
) -> None:
    """Print the way of a turn. Ends the command when the id is malformed or nothing is on the log."""
    bare_id, found = _look_up(turn_id, window_minutes)
    report = build_report(bare_id, found.records)
    if report is None:
        fail(_UNKNOWN.format(bare_id), Exit.NOT_FOUND)
    if as_json:
        typer.echo(report.model_dump_json(indent=2))
    else:
        render(report, Console(), every_delta=every_delta)
    _note_cut_off(found)


def export_trace(turn_id: str, *, url: str | None, file: Path | None, window_minutes: int = WINDOW_MINUTES) -> None:
    """Send the way of a turn as spans, or write them. Ends the command when nothing is found or nobody takes it."""
    try:
        from turnstream.trace import otlp  # noqa: PLC0415 - comes with the extra `operations`
    except ModuleNotFoundError:
        fail("spans need OpenTelemetry's SDK: install turnstream[operations]")
    from turnstream.trace.turn_trace import build_trace  # noqa: PLC0415 - as above

    bare_id, found = _look_up(turn_id, window_minutes)
    trace = build_trace(bare_id, found.records)
    if trace is None:
        fail(_UNKNOWN.format(bare_id), Exit.NOT_FOUND)
    _note_cut_off(found)
    if file is not None:
        _write(file, otlp.as_json(trace))
    if url is not None and not otlp.send(trace, url):
        fail(f"the collector did not take the spans: {otlp.traces_url(url)}")
    typer.echo(f"{len(trace.children) + 1} spans of trace {trace.trace_id:032x}", err=True)


def _write(file: Path, text: str) -> None:
    if file == Path("-"):
        typer.echo(text)
        return
    try:
        file.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        fail(f"{file} cannot be written: {error.strerror}")


def _look_up(turn_id: str, window_minutes: int) -> tuple[str, Found]:
    try:
        bare_id = parse_turn_id(turn_id)
    except ValueError as error:
        fail(f"not a turn id: {error}", Exit.BAD_INPUT)
    return bare_id, _find(require_settings(), bare_id, TraceSettings(window_ms=window_minutes * _MINUTE_MS))


def _note_cut_off(found: Found) -> None:
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
