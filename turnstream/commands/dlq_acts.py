"""``turnstream dlq redrive`` and ``discard``: what operators do about dead letters."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from producers.audit.trail import AuditTrail
from producers.redrive.letters import Letter
from producers.redrive.mending import UNCHANGED, Mending
from producers.redrive.stage import Redrive
from producers.redrive.states import DISCARD, ORIGIN, LetterState
from producers.redrive.summary import RedriveRequest, RedriveSummary, passed_over
from producers.replay.pace import Pace
from producers.replay.plan import Progress
from schemas.errors import Fatal, Malformed, Retryable
from schemas.ports import LogReader
from schemas.topics import MAX_RECORD_BYTES
from turnstream.audit.actor import NotAllowedError
from turnstream.clocks import now_ms
from turnstream.commands.exits import Exit, fail
from turnstream.commands.letter_options import (
    AsJson,
    Cause,
    Conversation,
    Execute,
    Places,
    Rate,
    Since,
    Stage,
    Tenant,
    TopicName,
    TurnId,
    Until,
    User,
    Where,
    letter_filter,
)
from turnstream.commands.replay_output import ProgressDisplay
from turnstream.commands.running_stack import require_settings
from turnstream.dead_letters.reading import LetterFilter, find_letters, read_fates
from turnstream.log.kafka_log_reader import KafkaLogReader
from turnstream.settings import Settings
from turnstream.wiring.audit import open_trail

_SHOWN_MAX = 20

Patch = Annotated[str | None, typer.Option("--merge-patch", help="A JSON Merge Patch (RFC 7396) for each value.")]
ValueFile = Annotated[Path | None, typer.Option("--value-file", help="The value that replaces that of one letter.")]
Again = Annotated[bool, typer.Option("--again", help="Also letters that were redriven or discarded before.")]
RedriveReason = Annotated[str | None, typer.Option("--reason", help="Why; in the audit.")]
DiscardReason = Annotated[str, typer.Option("--reason", help="Why; in the audit.", show_default=False)]


def redrive(
    places: Places = None,
    *,
    topic: TopicName = None,
    since: Since = None,
    until: Until = None,
    cause: Cause = None,
    stage: Stage = None,
    turn: TurnId = None,
    conversation: Conversation = None,
    user: User = None,
    tenant: Tenant = None,
    where: Where = None,
    merge_patch: Patch = None,
    value_file: ValueFile = None,
    reason: RedriveReason = None,
    again: Again = False,
    rate: Rate = None,
    execute: Execute = False,
    as_json: AsJson = False,
) -> None:
    """Drive dead letters back to their topics: each is answered and billed once, however often this runs.

    Without --execute it shows what would be done. Exit code 1: some letters cannot go back. 4: there are none.
    """
    wanted = letter_filter(
        places=places,
        topic=topic,
        since=since,
        until=until,
        cause=cause,
        stage=stage,
        turn=turn,
        conversation=conversation,
        user=user,
        tenant=tenant,
        where=where,
    )
    request = RedriveRequest(_mending(merge_patch, value_file, places), reason, again)
    settings = require_settings()
    summary = _guarded(_redrive(settings, wanted, request, Pace(rate, time.monotonic) if execute else None))
    if not summary.letters:
        fail("no dead letters match", Exit.NOT_FOUND)
    _print_summary(summary, executed=execute, as_json=as_json)
    if summary.obstacles:
        raise typer.Exit(Exit.FAILED)


def discard(
    places: Places = None,
    *,
    reason: DiscardReason,
    topic: TopicName = None,
    since: Since = None,
    until: Until = None,
    cause: Cause = None,
    stage: Stage = None,
    turn: TurnId = None,
    conversation: Conversation = None,
    user: User = None,
    tenant: Tenant = None,
    where: Where = None,
    execute: Execute = False,
    as_json: AsJson = False,
) -> None:
    """Mark open dead letters as discarded: they stay where they are, and nobody has to look at them again.

    Without --execute it shows what would be done. Exit code 4: there are none.
    """
    if not reason.strip():
        fail("--reason must say why", Exit.BAD_INPUT)
    wanted = letter_filter(
        places=places,
        topic=topic,
        since=since,
        until=until,
        cause=cause,
        stage=stage,
        turn=turn,
        conversation=conversation,
        user=user,
        tenant=tenant,
        where=where,
        state=LetterState.OPEN,
    )
    letters = _guarded(_discard(require_settings(), wanted, reason, execute=execute))
    if not letters:
        fail("no open dead letters match", Exit.NOT_FOUND)
    if as_json:
        for letter in letters:
            typer.echo(json.dumps({"place": str(letter.place), "discarded": execute}))
        return
    typer.echo(f"{'discarded' if execute else 'would discard'} {len(letters)} letters")
    if not execute:
        typer.echo("nothing was done: --execute does it", err=True)


def _guarded(work: Any) -> Any:
    """What ``work`` gives. Ends the command when something does not answer, or is not allowed."""
    found: Any = None
    reason, code = "", Exit.NOT_RUNNING
    try:
        found = asyncio.run(work)
    except* NotAllowedError as group:
        reason, code = str(group.exceptions[0]), Exit.BAD_INPUT
    except* (Retryable, Fatal, Malformed) as group:
        reason = f"{group.exceptions[0]}; run it again: what was done is not done twice"
    if reason:
        fail(reason, code)
    return found


async def _redrive(
    settings: Settings, wanted: LetterFilter, request: RedriveRequest, pace: Pace | None
) -> RedriveSummary:
    """Redrive at ``pace``; None: only plan it."""
    from turnstream.wiring.redrive import open_redrive  # noqa: PLC0415  # the driver comes with an extra

    closed: Counter[str] = Counter()
    async with KafkaLogReader(settings.kafka) as reader:
        letters = await _collect(settings, reader, wanted, None if request.again else closed)
        async with open_redrive(settings, reader) as ports:
            run = Redrive(ports, settings.operations.redrive, request, pace or Pace(None, time.monotonic))
            if pace is None:
                summary = await run.plan(letters)
            else:
                with ProgressDisplay() as display:
                    summary = await run.run(letters, _counted(display, len(letters)))
    summary.letters += closed.total()
    summary.closed += closed
    return summary


async def _discard(settings: Settings, wanted: LetterFilter, reason: str, *, execute: bool) -> Sequence[Letter]:
    async with KafkaLogReader(settings.kafka) as reader:
        letters = await _collect(settings, reader, wanted)
    if execute and letters:
        async with open_trail(settings) as trail:
            await _audit_discards(trail, letters, reason)
    return letters


async def _audit_discards(trail: AuditTrail, letters: Sequence[Letter], reason: str) -> None:
    begun = [trail.begun(DISCARD, str(each.place), reason, {ORIGIN: str(each.origin)}) for each in letters]
    turns = [each.turn_id for each in letters]
    await trail.write(begun, turns)
    # The mark itself is all that there is to do.
    await trail.write([trail.ended(each) for each in begun], turns)


async def _collect(
    settings: Settings, reader: LogReader, wanted: LetterFilter, closed: Counter[str] | None = None
) -> list[Letter]:
    """The letters that are meant, as many as one command may act on. Given ``closed``: open ones; counts the others."""
    letters: list[Letter] = []
    fates = await read_fates(reader, now_ms())
    async for letter, fate in find_letters(reader, wanted, fates):
        if closed is not None and fate.state is not LetterState.OPEN:
            closed[passed_over(fate.state)] += 1
            continue
        if len(letters) == settings.operations.letters_max:
            typer.echo(f"note: only the first {len(letters)} letters; run it again for the others", err=True)
            break
        letters.append(letter)
    return letters


def _mending(patch: str | None, value_file: Path | None, places: list[str] | None) -> Mending:
    if patch is not None and value_file is not None:
        fail("--merge-patch and --value-file exclude each other", Exit.BAD_INPUT)
    if value_file is not None:
        return Mending(value=_file_value(value_file, places))
    if patch is None:
        return UNCHANGED
    try:
        parsed = json.loads(patch)
    except ValueError:
        fail("--merge-patch is no JSON", Exit.BAD_INPUT)
    if not isinstance(parsed, dict):
        fail('--merge-patch takes a JSON object, such as \'{"turn": {"max_tokens": null}}\'', Exit.BAD_INPUT)
    return Mending(patch=parsed)


def _file_value(value_file: Path, places: list[str] | None) -> bytes:
    if len(places or ()) != 1:
        fail("--value-file is for one letter: name its place", Exit.BAD_INPUT)
    try:
        with value_file.open("rb") as file:
            value = file.read(MAX_RECORD_BYTES + 1)
    except OSError as error:
        fail(f"--value-file: {error.strerror}", Exit.BAD_INPUT)
    if len(value) > MAX_RECORD_BYTES:
        fail("--value-file is larger than a record may be", Exit.BAD_INPUT)
    return value


def _counted(display: ProgressDisplay, total: int) -> Callable[[int], None]:
    done = 0

    def more(letters: int) -> None:
        nonlocal done
        done += letters
        display(Progress("redrive", done, total, done))

    return more


def _print_summary(summary: RedriveSummary, *, executed: bool, as_json: bool) -> None:
    if as_json:
        for each in summary.redriven:
            line = {"place": str(each.place), "turn_id": each.turn_id, "new_turn_id": each.new_turn_id}
            typer.echo(json.dumps({**line, "executed": executed, "appended": each.appended}))
        for reason, letters in summary.obstacles.items():
            first = str(summary.first_obstacles[reason])
            typer.echo(json.dumps({"obstacle": reason, "letters": letters, "first": first}))
        for reason, letters in summary.closed.items():
            typer.echo(json.dumps({"closed": reason, "letters": letters}))
        return
    typer.echo(f"{'redriven' if executed else 'would redrive'}: {len(summary.redriven)} of {summary.letters} letters")
    for each in summary.redriven[:_SHOWN_MAX]:
        turn = f"  {each.turn_id} -> {each.new_turn_id or '(a new turn)'}" if each.turn_id else ""
        typer.echo(f"  {each.place}{turn}")
    if len(summary.redriven) > _SHOWN_MAX:
        typer.echo(f"  ... and {len(summary.redriven) - _SHOWN_MAX} more; --json shows all")
    for reason, letters in summary.closed.items():
        typer.echo(f"{letters} passed over: {reason}")
    for reason, letters in summary.obstacles.items():
        typer.echo(f"{letters} stay: {reason} (first: {summary.first_obstacles[reason]})")
    if not executed:
        typer.echo("nothing was done: --execute does it", err=True)
