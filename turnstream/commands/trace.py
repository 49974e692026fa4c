"""``turnstream trace``: the way of one turn, from the log."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from turnstream.commands.exits import fail
from turnstream.commands.turn_search import WINDOW_MINUTES, fail_unknown, note_cut_off, search_turn
from turnstream.trace.rendering import render
from turnstream.trace.report import build_report

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
    bare_id, found = search_turn(turn_id, window_minutes)
    report = build_report(bare_id, found.records)
    if report is None:
        fail_unknown(bare_id)
    if as_json:
        typer.echo(report.model_dump_json(indent=2))
    else:
        render(report, Console(), every_delta=every_delta)
    note_cut_off(found)


def export_trace(turn_id: str, *, url: str | None, file: Path | None, window_minutes: int = WINDOW_MINUTES) -> None:
    """Send the way of a turn as spans, or write them. Ends the command when nothing is found or nobody takes it."""
    try:
        from turnstream.trace import otlp  # noqa: PLC0415 - comes with the extra `operations`
    except ModuleNotFoundError:
        fail("spans need OpenTelemetry's SDK: install turnstream[operations]")
    from turnstream.trace.turn_trace import build_trace  # noqa: PLC0415 - as above

    bare_id, found = search_turn(turn_id, window_minutes)
    trace = build_trace(bare_id, found.records)
    if trace is None:
        fail_unknown(bare_id)
    note_cut_off(found)
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
