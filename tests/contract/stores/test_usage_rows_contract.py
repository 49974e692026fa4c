"""``UsageRows``, in memory and in Cassandra."""

import secrets
from collections.abc import AsyncIterator

import pytest

from schemas.ports import Owner, UsageRow, UsageRows
from tests.contract.stores.conftest import KINDS
from tests.support.memory_stores import MemoryUsageRows
from turnstream.stores.cassandra import open_session
from turnstream.stores.usage_rows import MS_PER_DAY, CassandraUsageRows

DAY = 20_500


@pytest.fixture(params=KINDS)
async def usage(request: pytest.FixtureRequest) -> AsyncIterator[UsageRows]:
    if request.param == "memory":
        yield MemoryUsageRows()
        return
    async with open_session(request.getfixturevalue("cassandra_settings")) as session:
        yield CassandraUsageRows(session)


def row(user: str, turn: str, day: int) -> UsageRow:
    return UsageRow("acme", user, turn, "k", "fast", 3, 2, 1, day * MS_PER_DAY + 7)


async def test_a_row_is_there_once_however_often_it_is_stored(usage: UsageRows) -> None:
    user, other = f"u{secrets.token_hex(6)}", f"u{secrets.token_hex(6)}"
    mine = [row(user, "t1", DAY), row(user, "t2", DAY), row(user, "t3", DAY + 1)]
    for _ in range(2):
        await usage.store([*mine, row(other, "t4", DAY), row(user, "t5", DAY + 2)])
    found = await usage.days(Owner("acme", user), DAY, DAY + 1)
    assert sorted(found, key=lambda each: each.turn_id) == mine
    assert list(await usage.days(Owner("other", user), DAY, DAY + 1)) == []


async def test_nothing_is_stored_for_nothing(usage: UsageRows) -> None:
    await usage.store([])
