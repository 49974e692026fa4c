"""``turnstream users``: who may log in, under which plan, and what else they may do."""

import asyncio
import secrets
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Final, TypeVar

import typer
from rich.console import Console
from rich.table import Column, Table

from producers.accounts.core import USER_PREFIX, email_address, password_text
from producers.accounts.passwords import Passwords
from producers.accounts.ports import User, UserChange
from producers.accounts.refresh_tokens import SESSION_ENTROPY_BYTES, base32
from producers.accounts.tenant_users import user_changed
from schemas.accounts import AccountRole
from schemas.ports import Cql
from turnstream.clocks import now_ms
from turnstream.commands.account_stores import require_names, require_plan, tell, with_cql
from turnstream.commands.audited import audited
from turnstream.commands.exits import Exit, fail
from turnstream.commands.running_stack import require_settings
from turnstream.stores.users import CassandraUsers

USERS_LISTED_MAX: Final = 10_000
_T = TypeVar("_T")

Tenant = Annotated[str, typer.Option("--tenant", help="The tenant of the user.")]
Plan = Annotated[str, typer.Option("--plan", help="The plan, which sets quotas and models.")]
Email = Annotated[str, typer.Argument(help="The address with which they log in.", show_default=False)]
UserId = Annotated[str, typer.Argument(help="The user's id, as `users list` shows it.", show_default=False)]
Roles = Annotated[list[AccountRole], typer.Argument(help="All the roles that they have from now on.")]
NewPlan = Annotated[str, typer.Argument(help="The plan that they have from now on.", show_default=False)]
Lift = Annotated[bool, typer.Option("--lift", help="Let them in again.")]
RoleOption = Annotated[list[AccountRole] | None, typer.Option("--role", help="A role; may be given more than once.")]


def register(app: typer.Typer) -> None:
    """Add the ``users`` commands to ``app``."""
    users = typer.Typer(no_args_is_help=True, help="Users: create, list, suspend, set-role, set-plan.")
    users.command()(create)
    users.command("list")(list_users)
    users.command()(suspend)
    users.command("set-role")(set_role)
    users.command("set-plan")(set_plan)
    app.add_typer(users, name="users")


def create(email: Email, tenant: Tenant = "public", plan: Plan = "free", role: RoleOption = None) -> None:
    """Create a user and print the id. The password is asked for, or read from standard input if that is no terminal."""
    require_names(tenant=tenant)
    settings = require_settings()
    require_plan(settings, plan)
    try:
        address = email_address(email)
    except ValueError as error:
        fail(str(error), Exit.BAD_INPUT)
    user = User(
        tenant_id=tenant,
        user_id=USER_PREFIX + base32(secrets.token_bytes(SESSION_ENTROPY_BYTES)),
        email=address,
        plan=plan,
        roles=tuple(dict.fromkeys(role or [AccountRole.USER])),
        suspended=False,
        created_at_ms=now_ms(),
    )
    password = password_text(_password(), address, settings.accounts)
    if password is None:
        limits = f"{settings.accounts.password_chars_min} to {settings.accounts.password_chars_max} characters"
        fail(f"a password has {limits} and is not the address", Exit.BAD_INPUT)
    kept = asyncio.run(Passwords(settings.accounts).hash(password))
    details = {"plan": plan, "roles": ",".join(each.value for each in user.roles)}
    with audited(settings, "users.create", f"{tenant}/{user.user_id}", details=details):
        if not with_cql(settings, _on_users(lambda users: users.register(user, kept))):
            fail("this address has an account", Exit.BAD_INPUT)
    typer.echo(user.user_id)


def list_users(tenant: Tenant = "public") -> None:
    """List the users of a tenant."""
    rows = with_cql(require_settings(), _on_users(lambda users: users.page(tenant, None, USERS_LISTED_MAX)))
    columns = (Column(name, overflow="fold") for name in ("id", "email", "plan", "roles", "state"))
    table = Table(*columns, box=None, header_style="dim", padding=(0, 1, 0, 0), pad_edge=False)
    # It is copied from here: a narrow terminal must not cut or fold it.
    table.columns[0].min_width = max((len(user.user_id) for user in rows), default=0)
    for user in sorted(rows, key=lambda user: (user.created_at_ms, user.user_id)):
        state = "[red]suspended[/]" if user.suspended else "[green]active[/]"
        roles = ",".join(role.value for role in user.roles)
        table.add_row(user.user_id, user.email or "-", user.plan or "-", roles or "-", state)
    Console().print(table)


def suspend(user_id: UserId, tenant: Tenant = "public", *, lift: Lift = False) -> None:
    """Keep a user out, and end what they stream. Exit code 4: no such user."""
    details = {"suspended": "no" if lift else "yes"}
    _change("users.suspend", user_id, tenant, UserChange(suspended=not lift), details, urgent=not lift)
    typer.echo("let in again" if lift else "suspended")


def set_role(user_id: UserId, roles: Roles, tenant: Tenant = "public") -> None:
    """Set what a user may do beside chatting. Exit code 4: no such user."""
    details = {"roles": ",".join(role.value for role in dict.fromkeys(roles))}
    _change("users.set_role", user_id, tenant, UserChange(roles=tuple(dict.fromkeys(roles))), details)
    typer.echo("changed")


def set_plan(user_id: UserId, plan: NewPlan, tenant: Tenant = "public") -> None:
    """Set a user's plan. Exit code 4: no such user."""
    require_plan(require_settings(), plan)
    _change("users.set_plan", user_id, tenant, UserChange(plan=plan), {"plan": plan})
    typer.echo("changed")


def _change(
    action: str, user_id: str, tenant: str, change: UserChange, details: Mapping[str, str], *, urgent: bool = False
) -> None:
    settings, changed_at_ms = require_settings(), now_ms()

    async def work(users: CassandraUsers) -> User | None:
        if await users.find(tenant, user_id) is None:
            return None
        await users.change(tenant, user_id, change, changed_at_ms)
        return await users.find(tenant, user_id)

    with audited(settings, action, f"{tenant}/{user_id}", details=details, urgent=urgent):
        user = with_cql(settings, _on_users(work))
        if user is None:
            fail("this tenant has no such user; `turnstream users list` shows them", Exit.NOT_FOUND)
    tell(settings, [user_changed(user, changed_at_ms)])


def _on_users(work: Callable[[CassandraUsers], Awaitable[_T]]) -> Callable[[Cql], Awaitable[_T]]:
    return lambda cql: work(CassandraUsers(cql))


def _password() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
