"""The command line: ``turnstream``."""

import os
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

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
from turnstream.unknown_variables import unknown_variables
from turnstream.validation_words import own_words

# Processes: they tell it in their log.
_LOGGING: Final = ("run", "bootstrap")


class Commands(TyperGroup):
    """All commands. What is wrong with an option is told in terms of the command line, without pydantic's prefix."""

    def invoke(self, ctx: Any) -> Any:
        """See ``TyperGroup.invoke``."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            # Typer takes the words of an error from pydantic.
            error.message = own_words(error.message)
            raise


app = typer.Typer(cls=Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_show_locals=False)


Version = Annotated[bool, typer.Option("--version", help="Print the version and exit.")]


@app.callback(invoke_without_command=True)
def _root(context: typer.Context, *, version: Version = False) -> None:
    """Turnstream: chat turns as events, from HTTP to GPU and back."""
    if version:
        typer.echo(__version__)
        raise typer.Exit
    if context.invoked_subcommand not in _LOGGING:
        for variable in unknown_variables(os.environ):
            typer.echo(f"warning: {variable}", err=True)


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
