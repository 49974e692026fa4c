"""``turnstream keys``: API keys, of which only hashes are kept."""

import re
import secrets
from datetime import UTC, datetime
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from producers.accounts.core import LABEL_CHARS_MAX
from producers.accounts.own_keys import KEY_REVOKED, key_lost
from producers.accounts.ports import ApiKeyRow
from producers.http.api_keys import KEY_ENTROPY_BYTES, key_hash, make_api_key
from schemas.errors import Fatal
from turnstream.clocks import now_ms
from turnstream.commands.account_stores import require_names, require_plan, tell, with_cql
from turnstream.commands.audited import audited
from turnstream.commands.exits import Exit, fail
from turnstream.commands.running_stack import require_settings
from turnstream.settings import Settings
from turnstream.stores.api_keys import create_key_row, list_key_rows, revoke_key_rows

KEYS_LISTED_MAX: Final = 10_000
_LIFE: Final = re.compile(r"([1-9][0-9]{0,5})([smhd])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

User = Annotated[str, typer.Option("--user", help="The user whose turns these are.")]
Tenant = Annotated[str, typer.Option("--tenant", help="The tenant of the user.")]
Plan = Annotated[str, typer.Option("--plan", help="The plan, which sets quotas and models, unless the user has one.")]
Label = Annotated[str, typer.Option("--label", help="A note for people.")]
Expires = Annotated[str | None, typer.Option("--expires", help="Its life, such as `30d`, `12h`; else it has no end.")]
Models = Annotated[str | None, typer.Option("--models", help="The only models that it may ask, by commas.")]
Requests = Annotated[int | None, typer.Option("--requests-per-minute", min=1, help="A limit of its own.")]
Tokens = Annotated[int | None, typer.Option("--tokens-per-minute", min=1, help="A limit of its own.")]
KeyId = Annotated[str, typer.Argument(help="The key's id, as `keys list` shows it.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add the ``keys`` commands to ``app``."""
    keys = typer.Typer(no_args_is_help=True, help="API keys: create, list, revoke.")
    keys.command()(create)
    keys.command("list")(list_keys)
    keys.command()(revoke)
    app.add_typer(keys, name="keys")


def create(
    user: User = "dev",
    tenant: Tenant = "dev",
    plan: Plan = "free",
    label: Label = "",
    *,
    expires: Expires = None,
    models: Models = None,
    requests_per_minute: Requests = None,
    tokens_per_minute: Tokens = None,
) -> None:
    """Create a key and print it once: only its hash is kept."""
    require_names(user=user, tenant=tenant, plan=plan)
    if len(label) > LABEL_CHARS_MAX:
        fail(f"--label takes at most {LABEL_CHARS_MAX} characters", Exit.BAD_INPUT)
    settings, created_at_ms = require_settings(), now_ms()
    require_plan(settings, plan)
    key = make_api_key(secrets.token_bytes(KEY_ENTROPY_BYTES))
    row = ApiKeyRow(
        key_hash=key_hash(key, _pepper(settings)),
        key_id=key.key_id,
        tenant_id=tenant,
        user_id=user,
        plan=plan,
        label=label,
        created_at_ms=created_at_ms,
        expires_at_ms=None if expires is None else created_at_ms + _life_ms(expires),
        models=None if models is None else _models(models, settings),
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
    )
    details = {"tenant": tenant, "user": user, "plan": plan}
    with audited(settings, "keys.create", row.key_id, details=details):
        with_cql(settings, lambda cql: create_key_row(cql, row))
    typer.echo("This key is shown once:", err=True)
    typer.echo(key.text)


def list_keys() -> None:
    """List the keys, oldest first, without anything secret."""
    rows = with_cql(require_settings(), lambda cql: list_key_rows(cql, KEYS_LISTED_MAX))
    now = now_ms()
    columns: dict[str, list[Text]] = {
        "id": [Text(row.key_id) for row in rows],
        "tenant": [Text(row.tenant_id) for row in rows],
        "user": [Text(row.user_id) for row in rows],
        "plan": [Text(row.plan) for row in rows],
        "created": [Text(_moment(row.created_at_ms)) for row in rows],
        "used": [Text(_moment(row.last_used_at_ms)) for row in rows],
        "state": [_state(row, now) for row in rows],
        "confined to": [Text(_confinement(row)) for row in rows],
        "label": [Text(row.label) for row in rows],
    }
    # What no key has is not worth its width.
    shown = {name: cells for name, cells in columns.items() if any(cell.plain for cell in cells)}
    columns_shown = (Column(name, overflow="fold") for name in shown)
    table = Table(*columns_shown, box=None, header_style="dim", padding=(0, 1, 0, 0), pad_edge=False)
    # It is copied from here: a narrow terminal must not cut or fold it.
    table.columns[0].min_width = max(map(len, columns["id"]), default=0)
    for cells in zip(*shown.values(), strict=True):
        table.add_row(*cells)
    Console().print(table)


def revoke(key_id: KeyId) -> None:
    """Revoke a key and end what is streamed under it. Exit code 4: no such key."""
    settings, revoked_at_ms = require_settings(), now_ms()
    with audited(settings, "keys.revoke", key_id, urgent=True):
        rows = with_cql(settings, lambda cql: revoke_key_rows(cql, key_id, revoked_at_ms, KEYS_LISTED_MAX))
        if not rows:
            fail("no key has this id; `turnstream keys list` shows them", Exit.NOT_FOUND)
    tell(settings, [key_lost(row, KEY_REVOKED, revoked_at_ms) for row in rows])
    typer.echo("revoked")


def _life_ms(text: str) -> int:
    match = _LIFE.fullmatch(text)
    if match is None:
        fail("--expires takes a number and a unit, such as 90s, 15m, 12h or 30d", Exit.BAD_INPUT)
    return int(match[1]) * _SECONDS[match[2]] * 1000


def _models(text: str, settings: Settings) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    known = {card.id for card in settings.models}
    if not names or not known.issuperset(names):
        fail(f"--models takes some of {', '.join(sorted(known))}", Exit.BAD_INPUT)
    return names


def _state(row: ApiKeyRow, now: int) -> Text:
    if row.revoked:
        return Text("revoked", "red")
    expired = row.expires_at_ms is not None and row.expires_at_ms <= now
    return Text("expired", "yellow") if expired else Text("active", "green")


def _confinement(row: ApiKeyRow) -> str:
    limits = (
        ",".join(row.models or ()),
        f"{row.requests_per_minute} requests/min" if row.requests_per_minute else "",
        f"{row.tokens_per_minute} tokens/min" if row.tokens_per_minute else "",
        f"until {_moment(row.expires_at_ms)}" if row.expires_at_ms else "",
    )
    return " ".join(limit for limit in limits if limit)


def _moment(moment_ms: int | None) -> str:
    return "" if moment_ms is None else datetime.fromtimestamp(moment_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")


def _pepper(settings: Settings) -> bytes:
    try:
        return settings.pepper_bytes
    except Fatal as error:
        fail(str(error), Exit.BAD_INPUT)
