"""``turnstream limits``: what the limiter did, from its ledger on the log."""

from typing import Annotated, Final

import typer

from schemas import topics
from turnstream.commands.turn_search import fail_unknown, note_cut_off, search_turn
from turnstream.trace.limit_report import build_limit_report, explain

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
    bare_id, found = search_turn(turn_id, window_minutes, _ASKED)
    report = build_limit_report(bare_id, found.records)
    if report is None:
        fail_unknown(bare_id)
    typer.echo(report.model_dump_json(indent=2) if as_json else "\n".join(explain(report)))
    note_cut_off(found)
