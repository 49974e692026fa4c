"""Finding the records of one turn, for the commands that tell of it."""

from collections.abc import Container
from typing import Final, NoReturn

import typer

from schemas.ids import parse_turn_id
from schemas.ports import LogReader, TopicPartition
from turnstream.commands.exits import Exit, fail
from turnstream.commands.log_reading import read_log
from turnstream.commands.running_stack import require_settings
from turnstream.log.kafka_topics import describe_topics
from turnstream.settings import Settings
from turnstream.trace.search import Found, TraceSettings, find_records
from turnstream.wiring.topics import planned_topics

_MINUTE_MS: Final = 60_000
WINDOW_MINUTES: Final = TraceSettings().window_ms // _MINUTE_MS


def search_turn(turn_id: str, window_minutes: int, topics: Container[str] | None = None) -> tuple[str, Found]:
    """The bare id and the records of a turn on ``topics`` (all, with dead letters, unless named).

    Ends the command when the id is malformed or the log does not answer.
    """
    try:
        bare_id = parse_turn_id(turn_id)
    except ValueError as error:
        fail(f"not a turn id: {error}", Exit.BAD_INPUT)
    search = TraceSettings(window_ms=window_minutes * _MINUTE_MS)
    settings = require_settings()

    async def find(reader: LogReader) -> Found:
        return await find_records(reader, await _partitions(settings, topics), bare_id, search)

    return bare_id, read_log(settings, find)


def fail_unknown(turn_id: str) -> NoReturn:
    """End the command: the log knows nothing of the turn."""
    fail(f"no record of turn {turn_id} on the log: unknown, or older than retention", Exit.NOT_FOUND)


def note_cut_off(found: Found) -> None:
    """Say which partitions were too full to be read to the end."""
    for partition in found.cut_off:
        typer.echo(f"note: {partition.topic}/{partition.partition} was not read to the end of the window", err=True)


async def _partitions(settings: Settings, topics: Container[str] | None) -> list[TopicPartition]:
    return [
        TopicPartition(state.plan.name, number)
        for state in await describe_topics(settings.kafka, planned_topics(settings))
        if topics is None or state.plan.name in topics
        for number in range(state.partitions or 0)
    ]
