"""The command line: ``turnstream``."""

from typing import Annotated

import typer

from turnstream import __version__
from turnstream.commands import (
    abuse,
    audit,
    bootstrap,
    chat,
    contract,
    demo,
    dlq,
    keys,
    lag,
    limits,
    plan,
    replay,
    run,
    stack,
    top,
    topics,
    trace,
    usage,
    users,
)

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_show_locals=False)


Version = Annotated[bool, typer.Option("--version", help="Print the version and exit.")]


@app.callback(invoke_without_command=True)
def _root(*, version: Version = False) -> None:
    """Turnstream: chat turns as events, from HTTP to GPU and back."""
    if version:
        typer.echo(__version__)
        raise typer.Exit


_COMMANDS = (
    stack,
    demo,
    chat,
    trace,
    usage,
    lag,
    limits,
    abuse,
    replay,
    dlq,
    audit,
    top,
    plan,
    topics,
    keys,
    users,
    run,
    bootstrap,
    contract,
)
for commands in _COMMANDS:
    commands.register(app)


def main() -> None:
    """Entry point of the ``turnstream`` script."""
    app()
