"""``turnstream audit``: what operators did."""

import json
from collections.abc import Iterator
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from producers.audit.reading import read_actions
from producers.replay.times import parse_time_ms
from schemas.operations import OperatorActed
from turnstream.clocks import now_ms
from turnstream.commands.exits import Exit, fail
from turnstream.commands.log_reading import read_log
from turnstream.commands.moments import moment_text
from turnstream.commands.running_stack import require_settings

Since = Annotated[str | None, typer.Option("--since", help="The oldest: `2h`, or 2026-01-31T14:00 (UTC).")]
ActorName = Annotated[str | None, typer.Option("--actor", help="Only what they did: `<tenant>/<user>`, `os:<login>`.")]
ActionName = Annotated[str | None, typer.Option("--action", help="Only this, such as `dlq.redrive`, or all `dlq`.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, an object per line.")]


def register(app: typer.Typer) -> None:
    """Add the ``audit`` commands to ``app``."""
    audit = typer.Typer(no_args_is_help=True, help="What operators did.")
    # An only command would lose its name; one beside a callback keeps it.
    audit.callback()(_audit)
    audit.command(name="list")(list_actions)
    app.add_typer(audit, name="audit")


def _audit() -> None:
    """What operators did."""


def list_actions(
    *, since: Since = None, actor: ActorName = None, action: ActionName = None, as_json: AsJson = False
) -> None:
    """List the actions of operators, oldest first: each as it was begun and as it ended. Times are UTC."""
    settings = require_settings()
    try:
        since_ms = 0 if since is None else parse_time_ms(since, now_ms())
    except ValueError as error:
        fail(f"--since: {error}", Exit.BAD_INPUT)
    actions = read_log(settings, lambda reader: read_actions(reader, since_ms))
    found = [each for each in actions if _is_wanted(each, actor, action)]
    if as_json:
        for each in found:
            typer.echo(json.dumps(each.model_dump(mode="json", exclude_none=True)))
        return
    console = Console()
    for each in found:
        for line in _told(each):
            # Subjects are copied from here, so nothing folds or cuts them.
            console.print(Text(line), soft_wrap=True)
    if not found:
        typer.echo("no actions match", err=True)


def _is_wanted(each: OperatorActed, actor: str | None, action: str | None) -> bool:
    named = action is None or each.action == action or each.action.startswith(f"{action}.")
    return named and (actor is None or each.actor == actor)


def _told(each: OperatorActed) -> Iterator[str]:
    yield f"{moment_text(each.acted_at_ms)}  {each.actor}  {each.action}  {each.outcome}  {each.subject}"
    details = [f"{name}={value}" for name, value in each.details.items()]
    if each.reason or details:
        yield "    " + ", ".join([each.reason, *details] if each.reason else details)
