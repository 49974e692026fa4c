"""`python -m turnstream.local_stack up`: the stack's commands alone, which is what a background start runs."""

from __future__ import annotations

import typer

from turnstream.commands.stack import register


def main() -> None:
    """Run one of `up`, `down`, `status`, `logs`."""
    app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
    register(app)
    app(prog_name="turnstream")


if __name__ == "__main__":
    main()
