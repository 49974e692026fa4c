"""``turnstream replay``: what lies on the log, given once more. Each mode is a file of its own beside this one."""

import typer

from turnstream.commands import replay_diff, replay_shadow
from turnstream.commands.dlq_acts import redrive
from turnstream.commands.replay_options import ReplayOptions, takes_selection
from turnstream.commands.replay_rebuild import rebuild
from turnstream.commands.replay_run import run_replay


def register(app: typer.Typer) -> None:
    """Add the ``replay`` commands to ``app``."""
    group = typer.Typer(no_args_is_help=True, help="Choose records that lie on the log, and give them again.")
    # An only command would lose its name; one beside a callback keeps it.
    group.callback()(_replay)
    group.command("plan")(takes_selection(plan))
    group.command("rebuild")(takes_selection(rebuild))
    group.command("redrive")(redrive)
    replay_shadow.register(group)
    replay_diff.register(group)
    app.add_typer(group, name="replay")


def _replay() -> None:
    """Choose records that lie on the log, and give them again. Without --execute a mode shows its plan."""


def plan(options: ReplayOptions) -> None:
    """Show what a selection means: records, partitions, time span, turns, tokens, cost. Never acts."""
    run_replay(options, None)
