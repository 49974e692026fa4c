"""``turnstream keys``: API keys, of which only hashes are kept."""

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, Final, TypeVar

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from producers.accounts.ports import ApiKeyRow
from producers.http.api_keys import KEY_ENTROPY_BYTES, key_hash, make_api_key
from schemas.errors import Fatal, Retryable
from schemas.ports import Cql
from turnstream.clocks import now_ms
from turnstream.commands.exits import Exit, fail
from turnstream.commands.running_stack import require_settings
from turnstream.settings import Settings
from turnstream.stores.api_keys import create_key_row, list_key_rows, revoke_key_rows

KEYS_LISTED_MAX: Final = 10_000
LABEL_CHARS_MAX: Final = 200
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_T = TypeVar("_T")

User = Annotated[str, typer.Option("--user", help="The user whose turns these are.")]
Tenant = Annotated[str, typer.Option("--tenant", help="The tenant of the user.")]
Plan = Annotated[str, typer.Option("--plan", help="The plan, which sets quotas and models.")]
Label = Annotated[str, typer.Option("--label", help="A note for people.")]
KeyId = Annotated[str, typer.Argument(help="The key's id, as `keys list` shows it.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add the ``keys`` commands to ``app``."""
    keys = typer.Typer(no_args_is_help=True, help="API keys: create, list, revoke.")
    keys.command()(create)
    keys.command("list")(list_keys)
    keys.command()(revoke)
    app.add_typer(keys, name="keys")


def create(user: User = "dev", tenant: Tenant = "dev", plan: Plan = "free", label: Label = "") -> None:
    """Create a key and print it once: only its hash is kept."""
    for name, value in (("--user", user), ("--tenant", tenant), ("--plan", plan)):
        if not _NAME.fullmatch(value):
            fail(f"{name} takes 1 to 64 letters, digits, dots, dashes or underscores", Exit.BAD_INPUT)
    if len(label) > LABEL_CHARS_MAX:
        fail(f"--label takes at most {LABEL_CHARS_MAX} characters", Exit.BAD_INPUT)
    settings = require_settings()
    key = make_api_key(secrets.token_bytes(KEY_ENTROPY_BYTES))
    row = ApiKeyRow(
        key_hash=key_hash(key, _pepper(settings)),
        key_id=key.key_id,
        tenant_id=tenant,
        user_id=user,
        plan=plan,
        label=label,
        created_at_ms=now_ms(),
    )
    _with_cql(settings, lambda cql: create_key_row(cql, row))
    typer.echo("This key is shown once:", err=True)
    typer.echo(key.text)


def list_keys() -> None:
    """List the keys, oldest first, without anything secret."""
    rows = _with_cql(require_settings(), lambda cql: list_key_rows(cql, KEYS_LISTED_MAX))
    columns = (Column(name, no_wrap=True) for name in ("id", "tenant", "user", "plan", "created", "state"))
    table = Table(*columns, "label", box=None, header_style="dim")
    for row in rows:
        created = datetime.fromtimestamp(row.created_at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")
        state = "[red]revoked[/]" if row.revoked else "[green]active[/]"
        table.add_row(row.key_id, row.tenant_id, row.user_id, row.plan, created, state, Text(row.label))
    Console().print(table)


def revoke(key_id: KeyId) -> None:
    """Revoke a key. Caches forget it within seconds; answers under way go on. Exit code 4: no such key."""
    revoked_at_ms = now_ms()
    revoked = _with_cql(require_settings(), lambda cql: revoke_key_rows(cql, key_id, revoked_at_ms, KEYS_LISTED_MAX))
    if not revoked:
        fail("no key has this id; `turnstream keys list` shows them", Exit.NOT_FOUND)
    typer.echo("revoked")


def _pepper(settings: Settings) -> bytes:
    try:
        return settings.pepper_bytes
    except Fatal as error:
        fail(str(error), Exit.BAD_INPUT)


def _with_cql(settings: Settings, work: Callable[[Cql], Awaitable[_T]]) -> _T:
    """Run ``work`` on a session of its own. Ends the command when Cassandra does not answer."""
    try:
        from turnstream.stores.cassandra import open_session  # noqa: PLC0415  # the driver comes with an extra
    except ModuleNotFoundError as missing:
        fail(f"{missing.name} is missing: install the extra `turnstream[edge]`")

    async def run() -> _T:
        async with open_session(settings.cassandra) as cql:
            return await work(cql)

    try:
        return asyncio.run(run())
    except Retryable as error:
        fail(str(error), Exit.NOT_RUNNING)
    except Fatal as error:
        fail(str(error))
