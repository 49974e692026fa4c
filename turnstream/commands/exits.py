"""How a command ends when it cannot do what was asked: one line on stderr and an exit code that scripts may rely on."""

from enum import IntEnum
from typing import NoReturn

import typer


class Exit(IntEnum):
    """Exit codes of the commands that talk to a running Turnstream."""

    FAILED = 1
    BAD_INPUT = 2
    NOT_RUNNING = 3
    NOT_FOUND = 4
    INTERRUPTED = 130


def fail(message: str, code: Exit = Exit.FAILED) -> NoReturn:
    """End the command with ``message``, one line without secrets. Raises typer.Exit."""
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(code)
