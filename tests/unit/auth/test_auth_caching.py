from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.accounts import Account
from schemas.errors import Retryable
from schemas.ports import Owner
from stream_processors.auth.caching import CachedConversations, CachedKeys
from stream_processors.auth.cassandra_conversations import INSERT_OWNER, CassandraConversations
from stream_processors.auth.cassandra_keys import CassandraKeys
from stream_processors.auth.core import AuthSettings
from stream_processors.auth.ttl_cache import TtlCache
from tests.support.memory_stores import MemoryConversationDirectory, MemoryKeyDirectory
from tests.support.turn_events import ACCOUNT, conversation_id

SETTINGS = AuthSettings(key_cache_s=5, owner_cache_s=60, key_cache_entries_max=2)


@dataclass
class Clock:
    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class CountingKeys:
    directory: MemoryKeyDirectory
    asked: list[list[str]] = field(default_factory=list)

    async def accounts(self, key_hashes: Sequence[str]) -> Mapping[str, Account]:
        self.asked.append(list(key_hashes))
        return await self.directory.accounts(key_hashes)


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
    clock, keys = Clock(), CountingKeys(MemoryKeyDirectory({"a": ACCOUNT, "b": ACCOUNT}))
    cached = CachedKeys(keys, SETTINGS, clock)
    await cached.accounts(["a"])
    clock.now_s = 4.9
    assert await cached.accounts(["a", "b"]) == {"a": ACCOUNT, "b": ACCOUNT}
    clock.now_s = 5.0
    await cached.accounts(["a"])
    assert keys.asked == [["a"], ["b"], ["a"]]


async def test_a_revoked_key_passes_no_longer_than_the_cache_lives() -> None:
    clock, directory = Clock(), MemoryKeyDirectory({"a": ACCOUNT})
    cached = CachedKeys(directory, SETTINGS, clock)
    await cached.accounts(["a"])
    directory.keys.clear()
    clock.now_s = SETTINGS.key_cache_s
    assert await cached.accounts(["a"]) == {}


async def test_a_new_key_is_seen_at_once() -> None:
    directory = MemoryKeyDirectory()
    cached = CachedKeys(directory, SETTINGS, Clock())
    assert await cached.accounts(["a"]) == {}
    directory.keys["a"] = ACCOUNT
    assert await cached.accounts(["a"]) == {"a": ACCOUNT}


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


async def test_revoked_and_half_written_keys_are_no_keys() -> None:
    row = SimpleNamespace(key_id="k1", tenant_id="acme", user_id="ann", plan="pro", revoked=None)
    rows: dict[object, list[Any]] = {
        "good": [row],
        "revoked": [SimpleNamespace(**{**vars(row), "revoked": True})],
        "partial": [SimpleNamespace(**{**vars(row), "plan": None})],
    }
    keys = CassandraKeys(ScriptedCql(rows), 2)
    assert await keys.accounts(["revoked", "good", "partial", "unknown"]) == {"good": ACCOUNT}


async def test_one_failed_read_fails_the_batch_as_retryable() -> None:
    keys = CassandraKeys(ScriptedCql({}, fails_for="b"), 2)
    with pytest.raises(Retryable, match="told to fail"):
        await keys.accounts(["a", "b", "c"])


async def test_a_claim_is_written_under_the_logs_time() -> None:
    cql = ScriptedCql({})
    await CassandraConversations(cql, 2).claim({conversation_id(1): Owner("acme", "ann")}, 1_234)
    assert cql.executed == [(INSERT_OWNER, (conversation_id(1), "acme", "ann", 1_234, 1_234_000))]


async def test_owners_are_read_by_conversation() -> None:
    cql = ScriptedCql({"c": [SimpleNamespace(tenant_id="acme", user_id="ann")]})
    assert await CassandraConversations(cql, 2).owners(["c", "d"]) == {"c": Owner("acme", "ann")}
