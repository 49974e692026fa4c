"""``turnstream bootstrap``: what must exist before the first process starts."""

import asyncio

import typer

from schemas.errors import Fatal, Retryable
from turnstream.commands.exits import Exit, fail
from turnstream.settings import Settings, load_settings


def register(app: typer.Typer) -> None:
    """Add the ``bootstrap`` command to ``app``."""
    app.command("bootstrap")(bootstrap_command)


def bootstrap_command() -> None:
    """Create missing topics and tables, and the development key where one is configured."""
    try:
        created, key = asyncio.run(_bootstrap(load_settings()))
    except Retryable as error:
        fail(str(error), Exit.NOT_RUNNING)
    except Fatal as error:
        fail(str(error))
    typer.echo(f"topics created: {len(created)}")
    if key is not None:
        typer.echo(f"key={key}")


async def _bootstrap(settings: Settings) -> tuple[tuple[str, ...], str | None]:
    # The drivers come with extras; the command line must start without them.
    from turnstream.stores.cassandra import open_session  # noqa: PLC0415
    from turnstream.wiring.bootstrap import bootstrap  # noqa: PLC0415
    from turnstream.wiring.clocks import now_ms  # noqa: PLC0415
    from turnstream.wiring.development_key import ensure_development_key  # noqa: PLC0415

    created = await bootstrap(settings)
    file = settings.secrets.development_key_file
    if file is None:
        return created, None
    async with open_session(settings.cassandra) as cql:
        return created, await ensure_development_key(cql, file, settings.pepper_bytes, now_ms())
