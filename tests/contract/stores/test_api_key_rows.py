"""The API keys in Cassandra, as the command line writes them."""

import secrets

import pytest

from producers.accounts.ports import ApiKeyRow
from turnstream.stores.api_keys import create_key_row, list_key_rows, revoke_key_rows
from turnstream.stores.cassandra import CassandraSession

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]
ROWS_MAX = 1_000


def key(created_at_ms: int = 1_700_000_000_000) -> ApiKeyRow:
    return ApiKeyRow(
        key_hash=secrets.token_hex(32),
        key_id=f"key-{secrets.token_hex(4)}",
        tenant_id="tenant",
        user_id="user",
        plan="free",
        label="a label",
        created_at_ms=created_at_ms,
    )


async def stored(cassandra: CassandraSession, row: ApiKeyRow) -> list[ApiKeyRow]:
    return [one for one in await list_key_rows(cassandra, ROWS_MAX) if one.key_id == row.key_id]


async def test_a_key_is_listed_as_it_was_created(cassandra: CassandraSession) -> None:
    row = key()
    for _ in range(2):
        await create_key_row(cassandra, row)
    assert await stored(cassandra, row) == [row]


async def test_keys_are_listed_oldest_first(cassandra: CassandraSession) -> None:
    for moment in (3_000, 1_000, 2_000):
        await create_key_row(cassandra, key(moment))
    moments = [row.created_at_ms for row in await list_key_rows(cassandra, ROWS_MAX)]
    assert moments == sorted(moments)


@pytest.mark.parametrize("now_ms", [1_800_000_000_000, 0])
async def test_a_revoked_key_stays_revoked_whatever_the_clock_says(cassandra: CassandraSession, now_ms: int) -> None:
    row = key()
    await create_key_row(cassandra, row)
    assert len(await revoke_key_rows(cassandra, row.key_id, now_ms, ROWS_MAX)) == 1
    await create_key_row(cassandra, row)
    assert [one.revoked for one in await stored(cassandra, row)] == [True]


async def test_revoking_an_unknown_key_finds_none(cassandra: CassandraSession) -> None:
    assert await revoke_key_rows(cassandra, "key-unknown", 1, ROWS_MAX) == []
