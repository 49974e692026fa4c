import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.accounts import (
    Account,
    AccountChanged,
    AccountRole,
    ApiKeyCredential,
    Credential,
    KeyLimits,
    SessionCredential,
)
from schemas.errors import Retryable
from schemas.ports import Owner
from stream_processors.auth.caching import CachedAccounts, CachedConversations
from stream_processors.auth.cassandra_accounts import CassandraAccounts
from stream_processors.auth.cassandra_conversations import INSERT_OWNER, CassandraConversations
from stream_processors.auth.core import AuthSettings
from stream_processors.auth.ttl_cache import TtlCache
from tests.support.memory_stores import MemoryAccountDirectory, MemoryConversationDirectory
from tests.support.turn_events import ACCOUNT, conversation_id


def key(letter: str) -> ApiKeyCredential:
    return ApiKeyCredential(key_hash=letter * 64)


def session_row(**changed: object) -> SimpleNamespace:
    return SimpleNamespace(**{"tenant_id": "acme", "user_id": "ann", "ended": False, **changed})


def changed(subject: Literal["api_key", "session", "user"], subject_id: str, account: Account) -> AccountChanged:
    return AccountChanged(
        subject=subject,
        subject_id=subject_id,
        tenant_id=account.tenant_id,
        user_id=account.user_id,
        access_lost=True,
        reason="revoked",
        changed_at_ms=1,
    )


A, B, C = key("a"), key("b"), key("c")
SESSION = SessionCredential(tenant_id="acme", user_id="ann", session_id="sess_1", expires_at_ms=9)
OTHER = ACCOUNT.model_copy(update={"user_id": "bob", "key_id": "k2"})
SETTINGS = AuthSettings(key_cache_s=5, owner_cache_s=60, key_cache_entries_max=2)


@dataclass
class Clock:
    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class CountingKeys:
    directory: MemoryAccountDirectory
    asked: list[list[str]] = field(default_factory=list)
    meanwhile: Callable[[], None] = lambda: None

    async def accounts(self, credentials: Sequence[Credential]) -> Mapping[str, Account]:
        self.asked.append([credential.name for credential in credentials])
        self.meanwhile()
        return await self.directory.accounts(credentials)


@dataclass
class ScriptedCql:
    """Answers by the first value bound; remembers what was executed."""

    rows: dict[object, list[Any]]
    executed: list[tuple[str, tuple[object, ...]]] = field(default_factory=list)
    fails_for: object = None

    async def execute(self, query: str, values: Sequence[object] = ()) -> Sequence[Any]:
        self.executed.append((query, tuple(values)))
        if values[0] == self.fails_for:
            raise Retryable("told to fail")
        return self.rows.get(values[0], [])


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3))), st.integers(1, 5))
def test_a_cache_is_bounded_and_never_answers_what_is_stale(steps: list[tuple[int, int]], entries_max: int) -> None:
    cache = TtlCache[int, int](ttl_s=3, entries_max=entries_max)
    put_at: dict[int, float] = {}
    now_s = 0.0
    for key, elapsed_s in steps:
        now_s += elapsed_s
        if cache.get([key], now_s):
            assert now_s - put_at[key] < 3
        cache.put({key: key}, now_s)
        put_at[key] = now_s
        assert cache.get([key], now_s) == {key: key}
        assert len(cache) <= entries_max


async def test_a_key_is_asked_for_once_within_its_time() -> None:
    clock, keys = Clock(), CountingKeys(MemoryAccountDirectory({A.name: ACCOUNT, B.name: ACCOUNT}))
    cached = CachedAccounts(keys, SETTINGS, clock)
    await cached.accounts([A])
    clock.now_s = 4.9
    assert await cached.accounts([A, B]) == {A.name: ACCOUNT, B.name: ACCOUNT}
    clock.now_s = 5.0
    await cached.accounts([A])
    assert keys.asked == [[A.name], [B.name], [A.name]]


async def test_a_revoked_key_passes_no_longer_than_the_cache_lives() -> None:
    clock, directory = Clock(), MemoryAccountDirectory({A.name: ACCOUNT})
    cached = CachedAccounts(directory, SETTINGS, clock)
    await cached.accounts([A])
    directory.keys.clear()
    clock.now_s = SETTINGS.key_cache_s
    assert await cached.accounts([A]) == {}


async def test_an_account_in_use_is_read_again_before_anybody_waits_for_it() -> None:
    clock, keys = Clock(), CountingKeys(MemoryAccountDirectory({A.name: ACCOUNT, B.name: ACCOUNT}))
    cached = CachedAccounts(keys, SETTINGS, clock)
    async with asyncio.TaskGroup() as group:
        refreshing = group.create_task(cached.keep_fresh())
        await cached.accounts([A, B])
        for now_s in (1, 3, 7):
            clock.now_s = now_s
            assert await cached.accounts([A]) == {A.name: ACCOUNT}
            await settle()
        keys.directory.keys.clear()
        clock.now_s = 10
        assert await cached.accounts([A]) == {A.name: ACCOUNT}
        await settle()
        assert await cached.accounts([A]) == {}
        refreshing.cancel()
    assert keys.asked == [[A.name, B.name], *[[A.name]] * 4]


async def test_a_store_that_is_away_ends_no_refreshing() -> None:
    clock, directory = Clock(), MemoryAccountDirectory({A.name: ACCOUNT})
    cached = CachedAccounts(directory, SETTINGS, clock)
    async with asyncio.TaskGroup() as group:
        refreshing = group.create_task(cached.keep_fresh())
        await cached.accounts([A])
        for down in (True, False):
            clock.now_s, directory.down = 4, down
            await cached.accounts([A])
            await settle()
        clock.now_s, directory.down = 8, True
        assert await cached.accounts([A]) == {A.name: ACCOUNT}
        refreshing.cancel()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_new_key_is_seen_at_once() -> None:
    directory = MemoryAccountDirectory()
    cached = CachedAccounts(directory, SETTINGS, Clock())
    assert await cached.accounts([A]) == {}
    directory.keys[A.name] = ACCOUNT
    assert await cached.accounts([A]) == {A.name: ACCOUNT}


async def test_a_change_that_is_heard_is_believed_at_once_even_without_the_store() -> None:
    directory = MemoryAccountDirectory({A.name: ACCOUNT, B.name: OTHER})
    cached = CachedAccounts(directory, SETTINGS, Clock())
    await cached.accounts([A, B])
    directory.down = True
    cached.hear(changed("api_key", ACCOUNT.key_id, ACCOUNT))
    assert cached.last_known([A, B]) == {B.name: OTHER}
    assert await cached.accounts([B]) == {B.name: OTHER}
    with pytest.raises(Retryable):
        await cached.accounts([A])


@pytest.mark.parametrize("subject", ["user", "session"])
async def test_a_change_concerns_its_subject_alone(subject: Literal["user", "session"]) -> None:
    session = ACCOUNT.model_copy(update={"key_id": "sess_1"})
    cached = CachedAccounts(MemoryAccountDirectory({A.name: ACCOUNT, "sess_1": session}), SETTINGS, Clock())
    both: list[Credential] = [A, SESSION]
    await cached.accounts(both)
    cached.hear(changed(subject, "sess_1" if subject == "session" else "ann", ACCOUNT))
    cached.hear(changed("user", "ann", ACCOUNT.model_copy(update={"tenant_id": "other"})))
    assert set(cached.last_known(both)) == (set() if subject == "user" else {A.name})


async def test_what_was_read_before_a_change_is_not_kept_after_it() -> None:
    directory = MemoryAccountDirectory({A.name: ACCOUNT})
    reading = CountingKeys(directory)
    cached = CachedAccounts(reading, SETTINGS, Clock())
    reading.meanwhile = lambda: cached.hear(changed("user", "ann", ACCOUNT))
    assert await cached.accounts([A]) == {A.name: ACCOUNT}
    assert cached.last_known([A]) == {}


async def test_a_claimed_conversation_is_known_without_asking() -> None:
    directory = MemoryConversationDirectory()
    cached = CachedConversations(directory, SETTINGS, Clock())
    await cached.claim({"c": Owner("acme", "ann")}, 7)
    directory.down = True
    assert await cached.owners(["c"]) == {"c": Owner("acme", "ann")}


async def test_a_claim_that_failed_is_not_remembered() -> None:
    directory = MemoryConversationDirectory(down=True)
    cached = CachedConversations(directory, SETTINGS, Clock())
    with pytest.raises(Retryable):
        await cached.claim({"c": Owner("acme", "ann")}, 7)
    directory.down = False
    assert await cached.owners(["c"]) == {}


def key_row(**changed: object) -> SimpleNamespace:
    columns = ("expires_at", "models", "requests_per_minute", "tokens_per_minute", "revoked")
    row = {"key_id": "k1", "tenant_id": "acme", "user_id": "ann", "plan": "pro", **dict.fromkeys(columns)}
    return SimpleNamespace(**{**row, **changed})


def user_row(**changed: object) -> SimpleNamespace:
    return SimpleNamespace(**{"plan": None, "roles": None, "suspended": None, **changed})


def directory_over(rows: dict[object, list[Any]]) -> CassandraAccounts:
    return CassandraAccounts(ScriptedCql(rows), 2)


async def test_revoked_and_half_written_keys_are_no_keys() -> None:
    rows: dict[object, list[Any]] = {
        A.name: [key_row()],
        B.name: [key_row(revoked=True)],
        C.name: [key_row(plan=None)],
    }
    assert await directory_over(rows).accounts([B, A, C, key("d")]) == {A.name: ACCOUNT}


async def test_a_key_has_its_limits_and_its_users_plan_and_roles() -> None:
    row = key_row(models=["turnstream-fast"], requests_per_minute=5, expires_at=datetime(1970, 1, 2, tzinfo=UTC))
    user = user_row(plan="enterprise", roles=["admin", "of the future"])
    (account,) = (await directory_over({A.name: [row], "acme": [user]}).accounts([A])).values()
    assert (account.plan, account.roles, account.models) == ("enterprise", (AccountRole.ADMIN,), ("turnstream-fast",))
    assert account.limits == KeyLimits(requests_per_minute=5)
    assert account.has_expired(86_400_000)
    assert not account.has_expired(86_399_999)


async def test_nothing_of_a_suspended_user_passes() -> None:
    suspended = [user_row(suspended=True)]
    rows: dict[object, list[Any]] = {A.name: [key_row()], "sess_1": [session_row()], "acme": suspended}
    assert await directory_over(rows).accounts([A, SESSION]) == {}


async def test_a_session_is_of_a_user_who_exists_and_of_nobody_else() -> None:
    alive: dict[object, list[Any]] = {"sess_1": [session_row()], "acme": [user_row(roles=["user"])]}
    found = await directory_over(alive).accounts([SESSION])
    assert found["sess_1"] == Account(
        tenant_id="acme", user_id="ann", key_id="sess_1", plan="free", roles=(AccountRole.USER,)
    )
    assert await directory_over({**alive, "acme": []}).accounts([SESSION]) == {}
    assert await directory_over({**alive, "sess_1": [session_row(ended=True)]}).accounts([SESSION]) == {}
    assert await directory_over({**alive, "sess_1": [session_row(user_id="eve")]}).accounts([SESSION]) == {}


async def test_one_failed_read_fails_the_batch_as_retryable() -> None:
    keys = CassandraAccounts(ScriptedCql({}, fails_for=B.name), 2)
    with pytest.raises(Retryable, match="told to fail"):
        await keys.accounts([A, B, C])


async def test_a_claim_is_written_under_the_logs_time() -> None:
    cql = ScriptedCql({})
    await CassandraConversations(cql, 2).claim({conversation_id(1): Owner("acme", "ann")}, 1_234)
    assert cql.executed == [(INSERT_OWNER, (conversation_id(1), "acme", "ann", 1_234, 1_234_000))]


async def test_owners_are_read_by_conversation() -> None:
    row = SimpleNamespace(tenant_id="acme", user_id="ann", deleted_at=None)
    gone = SimpleNamespace(tenant_id="acme", user_id="ann", deleted_at=1)
    cql = ScriptedCql({"c": [row], "gone": [gone]})
    assert await CassandraConversations(cql, 2).owners(["c", "d", "gone"]) == {"c": Owner("acme", "ann")}
