"""`python -m turnstream.local_stack`: the stack's commands alone, and the one that a background start runs."""

from __future__ import annotations

import typer

from turnstream.commands.stack import NoProcesses, Only, register
from turnstream.local_stack import front_end


def supervise(*, only: Only = "", no_processes: NoProcesses = False) -> None:
    """Run the stack with its output in a log: what `up --detach` starts."""
    raise typer.Exit(front_end.supervise(only, no_processes=no_processes))


def main() -> None:
    """Run one of `up`, `down`, `status`, `logs`, or `supervise`."""
    app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
    register(app)
    app.command(hidden=True)(supervise)
    app(prog_name="turnstream")


if __name__ == "__main__":
    main()
