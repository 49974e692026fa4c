"""``turnstream limits``: what the limiter did, from its ledger on the log."""

import asyncio
from typing import Annotated, Final

import typer

from schemas import topics
from schemas.errors import Fatal, Retryable
from schemas.ids import parse_turn_id
from schemas.ports import TopicPartition
from turnstream.commands.exits import Exit, fail
from turnstream.commands.running_stack import require_settings
from turnstream.log.kafka_log_reader import KafkaLogReader
from turnstream.log.kafka_topics import describe_topics
from turnstream.settings import Settings
from turnstream.trace.limit_report import build_limit_report, explain
from turnstream.trace.search import Found, TraceSettings, find_records
from turnstream.wiring.topics import planned_topics

_MINUTE_MS: Final = 60_000
_WINDOW_MINUTES: Final = 30
# Where it is said what became of a turn.
_ASKED: Final = frozenset({topics.TURNS_SUBMITTED.name, topics.LIMITS_LEDGER.name, topics.TOKENS.name})

TurnId = Annotated[str, typer.Argument(help="The turn, with or without `chatcmpl-`.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Window = Annotated[int, typer.Option("--window-minutes", min=1, help="How long after the turn's submission to look.")]


def register(app: typer.Typer) -> None:
    """Add the ``limits`` commands to ``app``."""
    limits = typer.Typer(no_args_is_help=True, help="Ask the limiter's ledger.")
    # An only command would lose its name; one beside a callback keeps it.
    limits.callback()(_limits)
    limits.command(name="explain")(explain_turn)
    app.add_typer(limits, name="limits")


def _limits() -> None:
    """Ask the limiter's ledger."""


def explain_turn(turn_id: TurnId, *, as_json: AsJson = False, window_minutes: Window = _WINDOW_MINUTES) -> None:
    """Say why a turn was let in, or not, with every quota before and after. Exit code 4: no such turn."""
    try:
        bare_id = parse_turn_id(turn_id)
    except ValueError as error:
        fail(f"not a turn id: {error}", Exit.BAD_INPUT)
    found = _find(require_settings(), bare_id, TraceSettings(window_ms=window_minutes * _MINUTE_MS))
    report = build_limit_report(bare_id, found.records)
    if report is None:
        fail(f"no record of turn {bare_id} on the log: unknown, or older than retention", Exit.NOT_FOUND)
    typer.echo(report.model_dump_json(indent=2) if as_json else "\n".join(explain(report)))
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
    states = await describe_topics(settings.kafka, planned_topics(settings))
    partitions = [
        TopicPartition(state.plan.name, number)
        for state in states
        if state.plan.name in _ASKED
        for number in range(state.partitions or 0)
    ]
    async with KafkaLogReader(settings.kafka) as reader:
        return await find_records(reader, partitions, turn_id, search)
