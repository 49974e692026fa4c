"""``TurnClaims``, in memory and in Cassandra: of all who claim a key at once, one wins."""

import asyncio
import secrets
from collections.abc import AsyncIterator

import pytest

from schemas.ports import TurnClaim, TurnClaims
from tests.contract.stores.conftest import KINDS
from tests.support.memory_stores import MemoryTurnClaims
from turnstream.stores.cassandra import open_session
from turnstream.stores.turn_claims import CassandraTurnClaims


@pytest.fixture(params=KINDS)
async def claims(request: pytest.FixtureRequest) -> AsyncIterator[TurnClaims]:
    if request.param == "memory":
        yield MemoryTurnClaims()
        return
    async with open_session(request.getfixturevalue("cassandra_settings")) as session:
        yield CassandraTurnClaims(session)


@pytest.fixture
def scope() -> str:
    return secrets.token_hex(16)


def claim(turn_id: str, request_hash: str = "hash") -> TurnClaim:
    return TurnClaim(turn_id, f"conv_{turn_id}", 42, request_hash)


async def test_the_first_claim_stays(claims: TurnClaims, scope: str) -> None:
    assert await claims.claim(scope, claim("a")) == claim("a")
    assert await claims.claim(scope, claim("b", "other")) == claim("a")
    assert await claims.claim(scope, claim("a")) == claim("a")


async def test_scopes_do_not_touch_each_other(claims: TurnClaims, scope: str) -> None:
    await claims.claim(scope, claim("a"))
    assert await claims.claim(scope + "0", claim("b")) == claim("b")


async def test_of_many_at_once_one_wins(claims: TurnClaims, scope: str) -> None:
    held = await asyncio.gather(*(claims.claim(scope, claim(f"turn{number}")) for number in range(6)))
    assert len(set(held)) == 1


async def test_a_claim_is_replaced_by_one_alone(claims: TurnClaims, scope: str) -> None:
    await claims.claim(scope, claim("a"))
    held = await asyncio.gather(*(claims.replace(scope, "a", claim(f"turn{number}")) for number in range(4)))
    assert len(set(held)) == 1
    assert held[0] != claim("a")
    assert await claims.replace(scope, "a", claim("late")) == held[0]
    assert await claims.claim(scope, claim("late")) == held[0]


async def test_a_repeated_replacement_is_recognised(claims: TurnClaims, scope: str) -> None:
    await claims.claim(scope, claim("a"))
    assert await claims.replace(scope, "a", claim("b")) == claim("b")
    assert await claims.replace(scope, "a", claim("b")) == claim("b")


async def test_a_claim_that_is_gone_is_taken_by_whoever_replaces_it(claims: TurnClaims, scope: str) -> None:
    assert await claims.replace(scope, "expired", claim("b")) == claim("b")
