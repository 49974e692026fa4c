"""``ActiveTurns``, in memory and in Cassandra."""

import secrets
from collections.abc import AsyncIterator

import pytest

from schemas.ports import ActiveTurns
from tests.contract.stores.conftest import KINDS
from tests.support.memory_stores import MemoryActiveTurns
from turnstream.stores.active_turns import CassandraActiveTurns
from turnstream.stores.cassandra import open_session


@pytest.fixture(params=KINDS)
async def active(request: pytest.FixtureRequest) -> AsyncIterator[ActiveTurns]:
    if request.param == "memory":
        yield MemoryActiveTurns()
        return
    async with open_session(request.getfixturevalue("cassandra_settings")) as session:
        yield CassandraActiveTurns(session)


async def test_turns_are_active_from_their_beginning_to_their_end(active: ActiveTurns) -> None:
    ours, other = f"conv_{secrets.token_hex(8)}", f"conv_{secrets.token_hex(8)}"
    assert await active.active((ours, other)) == {ours: (), other: ()}
    await active.begin({"t2": ours, "t1": ours, "t3": other})
    await active.begin({"t1": ours})
    assert await active.active((ours, other)) == {ours: ("t1", "t2"), other: ("t3",)}
    await active.end({"t1": ours, "t9": other})
    assert await active.active((ours, other, ours)) == {ours: ("t2",), other: ("t3",)}
    await active.end({"t2": ours, "t3": other})
    assert await active.active((ours,)) == {ours: ()}


async def test_nothing_is_asked_for_nothing(active: ActiveTurns) -> None:
    assert await active.active(()) == {}
    await active.begin({})
    await active.end({})
