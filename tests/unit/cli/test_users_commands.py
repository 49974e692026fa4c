"""``turnstream users`` over users in memory."""

from collections.abc import Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from schemas.accounts import AccountChanged, AccountRole
from tests.support.memory_accounts import MemoryUsers
from turnstream.commands import account_stores, users
from turnstream.commands.exits import Exit
from turnstream.settings import Settings
from turnstream.stores import cassandra

SETTINGS = Settings.model_validate(
    {"accounts": {"password_memory_kib": 8, "password_passes": 1, "password_lanes": 1, "registration_tenant": "public"}}
)
PASSWORD = "correct horse battery\n"  # noqa: S105 - of nobody

app = typer.Typer()
users.register(app)


@pytest.fixture
def told() -> list[AccountChanged]:
    return []


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch, told: list[AccountChanged]) -> MemoryUsers:
    stored = MemoryUsers()

    @asynccontextmanager
    async def open_session(_settings: object) -> Any:
        yield object()

    async def publish(_settings: Settings, changes: Sequence[AccountChanged]) -> None:
        told.extend(changes)

    monkeypatch.setattr(cassandra, "open_session", open_session)
    monkeypatch.setattr(account_stores, "_publish", publish)
    monkeypatch.setattr(users, "CassandraUsers", lambda _cql: stored)
    monkeypatch.setattr(users, "require_settings", lambda: SETTINGS)
    return stored


def invoke(*arguments: str, piped: str = PASSWORD) -> Result:
    return CliRunner().invoke(app, ["users", *arguments], input=piped)


def created(*options: str) -> str:
    result = invoke("create", "Ann@example.org", *options)
    assert result.exit_code == 0, result.output
    return result.stdout.strip()


def test_a_user_is_made_with_roles_and_a_hashed_password(memory: MemoryUsers) -> None:
    user_id = created("--tenant", "acme", "--plan", "pro", "--role", "admin", "--role", "analyst")
    user = memory.users["acme", user_id]
    assert (user.email, user.plan) == ("ann@example.org", "pro")
    assert user.roles == (AccountRole.ADMIN, AccountRole.ANALYST)
    assert memory.logins["ann@example.org"].password_hash.startswith("$argon2id$")


@pytest.mark.parametrize(
    ("arguments", "piped", "words"),
    [
        (("create", "nobody"), PASSWORD, "e-mail"),
        (("create", "ann@example.org"), "short\n", "password"),
        (("create", "ann@example.org", "--plan", "no such"), PASSWORD, "no such plan"),
        (("create", "ann@example.org", "--tenant", "a b"), PASSWORD, "--tenant"),
    ],
)
def test_a_bad_user_is_refused_in_one_line(
    memory: MemoryUsers, arguments: tuple[str, ...], piped: str, words: str
) -> None:
    result = invoke(*arguments, piped=piped)
    assert result.exit_code == Exit.BAD_INPUT
    assert words in result.stderr
    assert "short" not in result.output
    assert memory.users == {}


def test_an_address_is_taken_once(memory: MemoryUsers) -> None:
    created()
    assert invoke("create", "ann@example.org").exit_code == Exit.BAD_INPUT
    assert len(memory.users) == 1


def test_changes_are_kept_and_told(memory: MemoryUsers, told: list[AccountChanged]) -> None:
    user_id = created()
    for arguments in (("suspend", user_id), ("suspend", user_id, "--lift"), ("set-plan", user_id, "pro")):
        assert invoke(*arguments).exit_code == 0
    assert invoke("set-role", user_id, "user", "operator").exit_code == 0
    user = memory.users["public", user_id]
    assert (user.plan, user.roles, user.suspended) == ("pro", (AccountRole.USER, AccountRole.OPERATOR), False)
    assert [(one.subject_id, one.access_lost) for one in told] == [(user_id, True), *[(user_id, False)] * 3]


def test_the_list_shows_who_is_there(memory: MemoryUsers) -> None:
    user_id = created()
    invoke("suspend", user_id)
    shown = invoke("list").stdout
    assert user_id in shown
    assert "suspended" in shown
    assert memory.users


def test_a_user_of_another_tenant_is_not_found(memory: MemoryUsers, told: list[AccountChanged]) -> None:
    user_id = created()
    for arguments in (("suspend", user_id), ("set-plan", user_id, "pro"), ("set-role", user_id, "admin")):
        assert invoke(*arguments, "--tenant", "other").exit_code == Exit.NOT_FOUND
    assert invoke("set-plan", user_id, "no such").exit_code == Exit.BAD_INPUT
    assert told == []
    assert not memory.users["public", user_id].suspended
