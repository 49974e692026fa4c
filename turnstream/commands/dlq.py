"""``turnstream dlq``: dead letters, their causes, and what became of them."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from producers.redrive.letters import Letter, parse_letter_place
from producers.redrive.states import REVEAL, Fate, LetterState
from schemas.ports import LogReader
from turnstream.clocks import now_ms
from turnstream.commands.audited import audited, require_actor
from turnstream.commands.dlq_acts import discard, redrive
from turnstream.commands.exits import Exit, fail
from turnstream.commands.letter_options import (
    AsJson,
    Cause,
    Since,
    Stage,
    State,
    TopicName,
    TurnId,
    Until,
    letter_filter,
)
from turnstream.commands.log_reading import read_log
from turnstream.commands.moments import moment_text
from turnstream.commands.running_stack import require_settings
from turnstream.dead_letters.reading import LetterFilter, find_letter, find_letters, read_fates
from turnstream.dead_letters.views import LetterCount, LetterRow, LetterView, count_rows, row_of, view_of
from turnstream.settings import Settings

_COLOURS: Final = {LetterState.OPEN: "red", LetterState.REDRIVEN: "green", LetterState.DISCARDED: "bright_black"}

PlaceText = Annotated[str, typer.Argument(help="`<topic>.dlq/<partition>/<offset>`, as `dlq list` shows it.")]
Reveal = Annotated[bool, typer.Option("--reveal", help="With its content. Needs a key of an admin; is audited.")]
Reason = Annotated[str | None, typer.Option("--reason", help="Why it is revealed; in the audit.")]


def register(app: typer.Typer) -> None:
    """Add the ``dlq`` commands to ``app``."""
    dlq = typer.Typer(no_args_is_help=True, help="Dead letters: list, count, show, redrive, discard.")
    dlq.command("list")(list_letters)
    dlq.command()(count)
    dlq.command()(show)
    dlq.command()(redrive)
    dlq.command()(discard)
    app.add_typer(dlq, name="dlq")


def list_letters(
    *,
    topic: TopicName = None,
    since: Since = None,
    until: Until = None,
    cause: Cause = None,
    stage: Stage = None,
    turn: TurnId = None,
    state: State = None,
    as_json: AsJson = False,
) -> None:
    """List dead letters, topic by topic, oldest first."""
    wanted = letter_filter(topic=topic, since=since, until=until, cause=cause, stage=stage, turn=turn, state=state)
    rows = _rows(require_settings(), wanted)
    if as_json:
        for row in rows:
            typer.echo(row.model_dump_json(exclude_none=True))
    else:
        _print_lines(_list_lines(rows))


def count(
    *,
    topic: TopicName = None,
    since: Since = None,
    until: Until = None,
    cause: Cause = None,
    stage: Stage = None,
    state: State = None,
    as_json: AsJson = False,
) -> None:
    """Count dead letters by topic, stage, cause and state, most frequent first."""
    wanted = letter_filter(topic=topic, since=since, until=until, cause=cause, stage=stage, state=state)
    counts = count_rows(_rows(require_settings(), wanted))
    if as_json:
        for each in counts:
            typer.echo(each.model_dump_json())
    else:
        _print_lines(_count_lines(counts))


def show(place: PlaceText, *, reveal: Reveal = False, reason: Reason = None, as_json: AsJson = False) -> None:
    """Show one dead letter, its text sealed. Exit code 4: no such letter."""
    try:
        parsed = parse_letter_place(place)
    except ValueError as error:
        fail(str(error), Exit.BAD_INPUT)
    settings = require_settings()
    if reveal:
        _require_permission(settings, reason)

    async def find(reader: LogReader) -> tuple[Letter, Fate] | None:
        letter = await find_letter(reader, parsed)
        return None if letter is None else (letter, (await read_fates(reader, now_ms())).of(letter.origin))

    found = read_log(settings, find)
    if found is None:
        fail(f"no dead letter at {place}; `turnstream dlq list` shows them", Exit.NOT_FOUND)
    if not reveal:
        _print_view(view_of(*found, revealed=False), as_json=as_json)
        return
    with audited(settings, REVEAL, place, reason=reason, details={"origin": str(found[0].origin)}):
        _print_view(view_of(*found, revealed=True), as_json=as_json)


def _require_permission(settings: Settings, reason: str | None) -> None:
    if not reason:
        fail("--reveal needs --reason: it is kept in the audit", Exit.BAD_INPUT)
    actor = require_actor(settings)
    if not actor.may_reveal(operators_too=settings.operations.operators_reveal):
        fail(
            "content is shown to an admin only: set TURNSTREAM_OPERATIONS__OPERATOR_KEY to an admin's API key",
            Exit.BAD_INPUT,
        )


def _rows(settings: Settings, wanted: LetterFilter) -> list[LetterRow]:
    async def collect(reader: LogReader) -> list[LetterRow]:
        fates = await read_fates(reader, now_ms())
        return [row_of(letter, fate) async for letter, fate in find_letters(reader, wanted, fates)]

    return read_log(settings, collect)


def _print_view(view: LetterView, *, as_json: bool) -> None:
    if as_json:
        typer.echo(view.model_dump_json(exclude_none=True))
        return
    told = view.model_dump(exclude_none=True, exclude={"headers", "value", "buried_at_ms", "state_at_ms"})
    lines: list[tuple[str, str]] = [(name, str(value)) for name, value in told.items()]
    lines.append(("buried", moment_text(view.buried_at_ms)))
    lines += [(f"header {name}", value) for name, value in view.headers.items()]
    table = Table.grid(padding=(0, 2))
    for name, value in lines:
        table.add_row(Text(name, style="dim"), Text(value))
    Console().print(table)
    typer.echo(view.value if isinstance(view.value, str) else _indented(view.value))


def _indented(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _print_lines(lines: Iterable[str]) -> None:
    found = False
    for line in lines:
        typer.echo(line)
        found = True
    if not found:
        typer.echo("no dead letters match", err=True)


def _list_lines(rows: Sequence[LetterRow]) -> Iterator[str]:
    """Two lines per letter: places are copied from here, so nothing folds or cuts them."""
    for row in rows:
        turn = f"{row.turn_id} -> {row.new_turn_id}" if row.new_turn_id else row.turn_id or "no turn"
        when, state = moment_text(row.buried_at_ms), _state(row.state)
        yield f"{row.place}  {when}  {row.stage}  {state}  {row.bytes} bytes  {turn}"
        yield f"    {row.cause}"


def _count_lines(counts: Sequence[LetterCount]) -> Iterator[str]:
    for each in counts:
        span = f"{moment_text(each.first_ms)} to {moment_text(each.last_ms)}"
        yield f"{each.letters:>7}  {each.topic}  {each.stage}  {_state(each.state)}  {span}"
        yield f"         {each.cause}"


def _state(state: str) -> str:
    return typer.style(state, _COLOURS[LetterState(state)])
