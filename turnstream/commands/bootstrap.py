"""``turnstream bootstrap``: what must exist before the first process starts."""

import asyncio

import typer

from schemas.errors import Fatal, Retryable
from turnstream.commands.exits import Exit, fail
from turnstream.settings import load_settings
from turnstream.wiring.process import start_log


def register(app: typer.Typer) -> None:
    """Add the ``bootstrap`` command to ``app``."""
    app.command("bootstrap")(bootstrap_command)


def bootstrap_command() -> None:
    """Create missing topics and tables, and the development key where one is configured."""
    # The drivers come with extras; the command line must start without them.
    from turnstream.wiring.bootstrap import bootstrap  # noqa: PLC0415
    from turnstream.wiring.development_key import read_or_make_key  # noqa: PLC0415

    try:
        settings = load_settings()
        start_log("bootstrap", settings)
        file = settings.secrets.development_key_file
        key = read_or_make_key(file) if file is not None else None
        created = asyncio.run(bootstrap(settings, key))
    except Retryable as error:
        fail(str(error), Exit.NOT_RUNNING)
    except Fatal as error:
        fail(str(error))
    typer.echo(f"topics created: {len(created)}")
    if key is not None:
        typer.echo(f"key={key.text}")
