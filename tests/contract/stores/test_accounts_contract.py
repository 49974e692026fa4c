"""Users, sessions and keys: the stores in memory and in Cassandra keep the same promises."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest

from producers.accounts.ports import ApiKeyRow, ApiKeys, RefreshOutcome, Session, Sessions, User, UserChange, Users
from schemas.accounts import Account, AccountRole, ApiKeyCredential, KeyLimits, SessionCredential
from schemas.ports import AccountDirectory
from stream_processors.auth.cassandra_accounts import CassandraAccounts
from tests.support.memory_accounts import MemoryAccountRows
from turnstream.stores.api_keys import CassandraApiKeys
from turnstream.stores.cassandra import open_session
from turnstream.stores.sessions import CassandraSessions
from turnstream.stores.users import CassandraUsers

KINDS = (pytest.param("memory"), pytest.param("real", marks=[pytest.mark.integration, pytest.mark.timeout(120)]))
NOW_MS = 1_795_000_000_000


@dataclass(frozen=True)
class Stores:
    users: Users
    sessions: Sessions
    keys: ApiKeys
    directory: AccountDirectory


@pytest.fixture(params=KINDS)
async def stores(request: pytest.FixtureRequest) -> AsyncIterator[Stores]:
    if request.param == "memory":
        rows = MemoryAccountRows()
        yield Stores(rows.users, rows.sessions, rows.keys, rows)
        return
    async with open_session(request.getfixturevalue("cassandra_settings")) as cql:
        yield Stores(CassandraUsers(cql), CassandraSessions(cql), CassandraApiKeys(cql), CassandraAccounts(cql, 8))


@pytest.fixture
def user() -> User:
    name = secrets.token_hex(6)
    return User(
        tenant_id=f"tenant-{name}",
        user_id=f"user_{name}",
        email=f"{name}@example.org",
        plan="free",
        roles=(AccountRole.USER,),
        suspended=False,
        created_at_ms=NOW_MS,
    )


def key_of(user: User, **limits: int) -> ApiKeyRow:
    row = ApiKeyRow(secrets.token_hex(32), secrets.token_hex(8), user.tenant_id, user.user_id, "free", "l", NOW_MS)
    return replace(row, **limits)  # type: ignore[arg-type]  # the columns of integers


def session_of(user: User, seconds: int = 3600) -> Session:
    expires_at_ms = time.time_ns() // 1_000_000 + seconds * 1000
    return Session(f"sess_{secrets.token_hex(8)}", user.tenant_id, user.user_id, "first", expires_at_ms)


def credential_of(session: Session) -> SessionCredential:
    return SessionCredential(
        tenant_id=session.tenant_id,
        user_id=session.user_id,
        session_id=session.session_id,
        expires_at_ms=session.expires_at_ms,
    )


async def test_an_address_has_one_login(stores: Stores, user: User) -> None:
    other = replace(user, user_id=user.user_id + "x")
    assert await stores.users.register(user, "hash")
    assert await stores.users.register(user, "hash"), "the same again, after a lost answer"
    assert not await stores.users.register(other, "hash of another")
    login = await stores.users.login(user.email or "")
    assert login is not None
    assert (login.tenant_id, login.user_id, login.password_hash) == (user.tenant_id, user.user_id, "hash")
    assert await stores.users.find(user.tenant_id, user.user_id) == user
    assert await stores.users.find(user.tenant_id, other.user_id) is None
    assert list(await stores.users.page(user.tenant_id, None, 10)) == [user]


async def test_a_password_is_replaced(stores: Stores, user: User) -> None:
    await stores.users.register(user, "hash")
    await stores.users.keep_password(user.email or "", "better hash")
    login = await stores.users.login(user.email or "")
    assert login is not None
    assert login.password_hash == "better hash"  # noqa: S105 - not a password


async def test_nobody_logs_in_with_an_unknown_address(stores: Stores) -> None:
    assert await stores.users.login(f"{secrets.token_hex(8)}@example.org") is None


async def test_a_user_is_changed_in_part(stores: Stores, user: User) -> None:
    await stores.users.register(user, "hash")
    await stores.users.change(user.tenant_id, user.user_id, UserChange(suspended=True), NOW_MS + 1)
    await stores.users.change(user.tenant_id, user.user_id, UserChange(roles=(AccountRole.ADMIN,)), NOW_MS + 2)
    expected = replace(user, suspended=True, roles=(AccountRole.ADMIN,))
    assert await stores.users.find(user.tenant_id, user.user_id) == expected


async def test_pages_of_users_show_each_once(stores: Stores, user: User) -> None:
    names = {f"{user.user_id}{number:02}" for number in range(25)}
    for name in names:
        await stores.users.register(replace(user, user_id=name, email=f"{name}@example.org"), "hash")
    seen: list[str] = []
    while page := await stores.users.page(user.tenant_id, seen[-1] if seen else None, 7):
        seen += [one.user_id for one in page]
    assert len(seen) == len(names)
    assert set(seen) == names


async def test_a_refresh_token_is_good_for_one_use(stores: Stores, user: User) -> None:
    session, now_ms = session_of(user), time.time_ns() // 1_000_000
    await stores.sessions.begin(session, now_ms)
    first = await stores.sessions.refresh(session.session_id, "first", "second", now_ms)
    again = await stores.sessions.refresh(session.session_id, "first", "second", now_ms)
    reused = await stores.sessions.refresh(session.session_id, "first", "stolen", now_ms)
    assert (first.outcome, again.outcome, reused.outcome) == (
        RefreshOutcome.ROTATED,
        RefreshOutcome.ROTATED,
        RefreshOutcome.REUSED,
    )
    assert first.session is not None
    assert first.session.user_id == user.user_id


async def test_of_many_that_use_a_token_at_once_one_wins(stores: Stores, user: User) -> None:
    session, now_ms = session_of(user), time.time_ns() // 1_000_000
    await stores.sessions.begin(session, now_ms)
    tries = [stores.sessions.refresh(session.session_id, "first", f"next-{number}", now_ms) for number in range(6)]
    outcomes = [refreshed.outcome for refreshed in await asyncio.gather(*tries)]
    assert sorted(outcomes) == [*[RefreshOutcome.REUSED] * 5, RefreshOutcome.ROTATED]


async def test_an_ended_session_is_gone_and_can_be_ended_again(stores: Stores, user: User) -> None:
    session, now_ms = session_of(user), time.time_ns() // 1_000_000
    await stores.users.register(user, "hash")
    await stores.sessions.begin(session, now_ms)
    assert await stores.directory.accounts([credential_of(session)]) == {
        session.session_id: Account(
            tenant_id=user.tenant_id,
            user_id=user.user_id,
            key_id=session.session_id,
            plan="free",
            roles=(AccountRole.USER,),
        )
    }
    for _ in range(2):
        ended = await stores.sessions.end(session.session_id, now_ms)
        assert ended is not None
        assert ended.user_id == user.user_id
    assert (await stores.sessions.refresh(session.session_id, "first", "x", now_ms)).outcome is RefreshOutcome.GONE
    assert await stores.directory.accounts([credential_of(session)]) == {}


async def test_an_expired_and_an_unknown_session_are_gone(stores: Stores, user: User) -> None:
    session, now_ms = session_of(user), time.time_ns() // 1_000_000
    await stores.sessions.begin(session, now_ms)
    late_ms = session.expires_at_ms
    assert (await stores.sessions.refresh(session.session_id, "first", "x", late_ms)).outcome is RefreshOutcome.GONE
    assert (await stores.sessions.refresh("sess_unknown", "first", "x", now_ms)).outcome is RefreshOutcome.GONE
    assert await stores.sessions.end("sess_unknown", now_ms) is None


async def test_a_key_with_limits_is_listed_and_resolved(stores: Stores, user: User) -> None:
    row = key_of(user, requests_per_minute=5, expires_at_ms=NOW_MS + 60_000)
    for _ in range(2):
        await stores.keys.create(row)
    assert list(await stores.keys.of_user(user.tenant_id, user.user_id, 10)) == [row]
    account = (await stores.directory.accounts([ApiKeyCredential(key_hash=row.key_hash)]))[row.key_hash]
    assert account.limits == KeyLimits(requests_per_minute=5)
    assert account.expires_at_ms == row.expires_at_ms


async def test_a_revoked_key_passes_no_more_and_is_found_until_it_is_forgotten(stores: Stores, user: User) -> None:
    row, kept = key_of(user), key_of(user)
    for one in (row, kept):
        await stores.keys.create(one)
    await stores.keys.revoke(row, 0)
    assert await stores.directory.accounts([ApiKeyCredential(key_hash=row.key_hash)]) == {}
    assert await stores.keys.find(user.tenant_id, user.user_id, row.key_id) == replace(row, revoked=True)
    await stores.keys.forget(row)
    assert await stores.keys.find(user.tenant_id, user.user_id, row.key_id) is None
    assert list(await stores.keys.of_user(user.tenant_id, user.user_id, 10)) == [kept]


async def test_a_key_is_found_by_its_user_alone(stores: Stores, user: User) -> None:
    row = key_of(user)
    await stores.keys.create(row)
    assert await stores.keys.find(user.tenant_id, "somebody else", row.key_id) is None
    assert await stores.keys.find("another tenant", user.user_id, row.key_id) is None


async def test_the_last_use_is_the_newest(stores: Stores, user: User) -> None:
    row = key_of(user)
    await stores.keys.create(row)
    for moment_ms in (NOW_MS + 5, NOW_MS + 9, NOW_MS + 7):
        await stores.keys.note_use(row.key_hash, moment_ms)
    found = await stores.keys.find(user.tenant_id, user.user_id, row.key_id)
    assert found == replace(row, last_used_at_ms=NOW_MS + 9)


async def test_a_suspended_user_passes_with_nothing(stores: Stores, user: User) -> None:
    row = key_of(user)
    await stores.users.register(user, "hash")
    await stores.keys.create(row)
    await stores.users.change(user.tenant_id, user.user_id, UserChange(suspended=True), NOW_MS + 1)
    assert await stores.directory.accounts([ApiKeyCredential(key_hash=row.key_hash)]) == {}
