"""Who loses access while a response is written, and which keys were used."""

from dataclasses import dataclass, field
from typing import Literal

import pytest

from producers.http.accounts import Accounts
from producers.http.key_uses import KeyUses
from producers.http.open_access import OpenAccess, Watch
from producers.ingest.core import IngestSettings
from schemas.accounts import Account, AccountChanged, ApiKeyCredential, Credential, SessionCredential
from schemas.errors import Retryable
from tests.support.memory_stores import MemoryAccountDirectory

ANN = Account(tenant_id="acme", user_id="ann", key_id="k1", plan="free")
BOB = Account(tenant_id="acme", user_id="bob", key_id="k2", plan="free")
KEY = ApiKeyCredential(key_hash="a" * 64)
BOBS = ApiKeyCredential(key_hash="b" * 64)
SESSION = SessionCredential(tenant_id="acme", user_id="ann", session_id="sess_1", expires_at_ms=9)


@dataclass
class NotedUses:
    notes: list[tuple[str, int]] = field(default_factory=list)
    down: bool = False

    async def note_use(self, key_hash: str, used_at_ms: int) -> None:
        if self.down:
            raise Retryable("told to fail")
        self.notes.append((key_hash[0], used_at_ms))


@dataclass
class World:
    directory: MemoryAccountDirectory = field(
        default_factory=lambda: MemoryAccountDirectory({KEY.name: ANN, BOBS.name: BOB, "sess_1": ANN})
    )
    uses: NotedUses = field(default_factory=NotedUses)
    now_ms: int = 1_000_000

    def __post_init__(self) -> None:
        accounts = Accounts(self.directory, IngestSettings(), lambda: self.now_ms / 1000, lambda: self.now_ms)
        self.access = OpenAccess(accounts, KeyUses(self.uses, 10, 5), lambda: self.now_ms)


def lost(*watches: Watch) -> list[str | None]:
    return [watch.lost for watch in watches]


def change(
    subject: Literal["api_key", "session", "user"],
    subject_id: str,
    *,
    account: Account = ANN,
    key_hash: str | None = None,
    access_lost: bool = True,
) -> AccountChanged:
    return AccountChanged(
        subject=subject,
        subject_id=subject_id,
        tenant_id=account.tenant_id,
        user_id=account.user_id,
        key_hash=key_hash,
        access_lost=access_lost,
        reason="revoked",
        changed_at_ms=1,
    )


def test_a_revoked_key_loses_its_responses_at_once_and_no_other_does() -> None:
    world = World()
    calls: list[str] = []
    with world.access.watch(KEY) as mine, world.access.watch(BOBS) as bobs, world.access.watch(SESSION) as session:
        mine.on_lost = lambda: calls.append("mine")
        bobs.on_lost = lambda: calls.append("bobs")
        for _ in range(2):
            world.access.hear(change("api_key", "k1", key_hash=KEY.key_hash))
        assert lost(mine, bobs, session) == ["revoked", None, None]
    assert calls == ["mine"]
    assert len(world.access) == 0


def test_an_ended_session_loses_its_responses() -> None:
    world = World()
    with world.access.watch(SESSION) as session, world.access.watch(KEY) as key:
        world.access.hear(change("session", "sess_2"))
        assert lost(session, key) == [None, None]
        world.access.hear(change("session", "sess_1"))
        assert lost(session, key) == ["revoked", None]


async def test_a_suspended_user_loses_the_responses_of_keys_that_nobody_had_asked_about() -> None:
    world = World()
    with world.access.watch(KEY) as early, world.access.watch(BOBS) as bobs, world.access.watch(SESSION) as session:
        world.directory.keys.pop(KEY.name)
        world.access.hear(change("user", "ann"))
        assert lost(session, early) == ["revoked", None], "of a session the user is known"
        await world.access.look_after()
        assert lost(early, bobs) == ["suspended", None]


async def test_a_suspended_user_loses_the_responses_of_known_keys_at_once() -> None:
    world = World()
    with world.access.watch(KEY) as mine, world.access.watch(BOBS) as bobs:
        await world.access.look_after()
        world.access.hear(change("user", "ann"))
        assert lost(mine, bobs) == ["revoked", None]


async def test_a_change_that_takes_nothing_ends_nothing() -> None:
    world = World()
    with world.access.watch(KEY) as early:
        world.access.hear(change("user", "ann", access_lost=False))
        await world.access.look_after()
        world.access.hear(change("user", "ann", access_lost=False))
        await world.access.look_after()
        assert early.lost is None
        assert early.account == ANN


async def test_nobody_loses_access_because_a_store_does_not_answer() -> None:
    world = World()
    with world.access.watch(KEY) as mine:
        world.directory.down = True
        world.access.hear(change("user", "ann"))
        await world.access.look_after()
        assert lost(mine) == [None]
        world.directory.down = False
        world.directory.keys.clear()
        await world.access.look_after()
        assert lost(mine) == ["suspended"]


async def test_a_key_that_expires_loses_its_responses() -> None:
    world = World()
    world.directory.keys[KEY.name] = ANN.model_copy(update={"expires_at_ms": world.now_ms + 5_000})
    with world.access.watch(KEY) as mine:
        await world.access.look_after()
        world.now_ms += 4_999
        await world.access.look_after()
        assert lost(mine) == [None]
        world.now_ms += 1
        await world.access.look_after()
        assert lost(mine) == ["expired"]


async def test_a_use_is_noted_once_a_minute_for_each_key() -> None:
    world = World()
    unknown = ApiKeyCredential(key_hash="c" * 64)
    moments: list[tuple[int, Credential]] = [(0, KEY), (1, KEY), (2, unknown), (3, BOBS), (4, SESSION), (30_000, KEY)]
    for elapsed_ms, credential in moments:
        world.now_ms = 1_000_000 + elapsed_ms
        with world.access.watch(credential):
            pass
        await world.access.look_after()
    assert world.uses.notes == [("a", 1_000_000), ("b", 1_000_003)]
    world.now_ms = 1_060_000
    with world.access.watch(KEY):
        pass
    await world.access.look_after()
    assert world.uses.notes[-1] == ("a", 1_060_000)


async def test_a_use_that_could_not_be_noted_is_noted_later() -> None:
    world = World()
    world.uses.down = True
    with world.access.watch(KEY):
        pass
    await world.access.look_after()
    world.uses.down = False
    await world.access.look_after()
    assert world.uses.notes == [("a", 1_000_000)]


@pytest.mark.parametrize("keys", [3, 30])
async def test_the_memory_of_uses_is_bounded(keys: int) -> None:
    world = World()
    for number in range(keys):
        with world.access.watch(ApiKeyCredential(key_hash=f"{number:064x}")):
            pass
    uses = world.access._uses
    assert len(uses._used) == min(keys, 10)
    await world.access.look_after()
    assert len(uses._used) == max(0, min(keys, 10) - 5)
