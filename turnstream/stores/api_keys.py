"""API keys in Cassandra: the port ``ApiKeys``, and what operators do. Only hashes come here, never a key's text."""

from collections.abc import Sequence
from typing import Any, Final

from producers.accounts.ports import ApiKeyRow
from schemas.ports import Cql
from schemas.timestamps import unix_ms
from stream_processors.bounded_gather import execute_each

_COLUMNS: Final = (
    "key_hash, key_id, tenant_id, user_id, plan, label, revoked, created_at, expires_at, models,"
    " requests_per_minute, tokens_per_minute"
)
_INSERT: Final = f"INSERT INTO api_keys ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?"  # noqa: S608
_SELECT: Final = f"SELECT {_COLUMNS}, last_used_at FROM api_keys"  # noqa: S608 - constants alone
_FIND: Final = f"{_SELECT} WHERE key_hash = ?"
_LIST: Final = f"{_SELECT} LIMIT ?"
_REVOKE: Final = "UPDATE api_keys USING TIMESTAMP ? SET revoked = true WHERE key_hash = ?"
_NOTE_USE: Final = "UPDATE api_keys USING TIMESTAMP ? SET last_used_at = ? WHERE key_hash = ?"
_ENTER: Final = "INSERT INTO api_keys_by_user (tenant_id, user_id, key_id, key_hash) VALUES (?, ?, ?, ?)"
_OF_USER: Final = "SELECT key_hash FROM api_keys_by_user WHERE tenant_id = ? AND user_id = ? LIMIT ?"
_ONE_OF_USER: Final = "SELECT key_hash FROM api_keys_by_user WHERE tenant_id = ? AND user_id = ? AND key_id = ?"
_LEAVE: Final = "DELETE FROM api_keys_by_user WHERE tenant_id = ? AND user_id = ? AND key_id = ?"
_IN_FLIGHT_MAX: Final = 32


class CassandraApiKeys:
    """A row per key, and a row per user and key that leads to it."""

    def __init__(self, cql: Cql) -> None:
        self._cql = cql

    async def create(self, row: ApiKeyRow) -> None:
        """Store a key, idempotently. Raises Retryable."""
        await create_key_row(self._cql, row)

    async def of_user(self, tenant_id: str, user_id: str, limit: int) -> Sequence[ApiKeyRow]:
        """Up to ``limit`` keys of a user that are not revoked, by their ids. Raises Retryable."""
        entries = await self._cql.execute(_OF_USER, (tenant_id, user_id, limit))
        return [row for row in await self._rows(entries) if not row.revoked]

    async def find(self, tenant_id: str, user_id: str, key_id: str) -> ApiKeyRow | None:
        """A key of this user's, also one whose revocation was not finished. Raises Retryable."""
        rows = await self._rows(await self._cql.execute(_ONE_OF_USER, (tenant_id, user_id, key_id)))
        return rows[0] if rows else None

    async def revoke(self, row: ApiKeyRow, now_ms: int) -> None:
        """Let the key pass no more. Raises Retryable."""
        # Never older than the creation, or a clock that went back would lose the revocation.
        written_us = max(now_ms, row.created_at_ms + 1) * 1000
        await self._cql.execute(_REVOKE, (written_us, row.key_hash))

    async def forget(self, row: ApiKeyRow) -> None:
        """Take a revoked key off its user's list. Raises Retryable."""
        await self._cql.execute(_LEAVE, (row.tenant_id, row.user_id, row.key_id))

    async def note_use(self, key_hash: str, used_at_ms: int) -> None:
        """Note when a key was used last; the newest note wins. Raises Retryable."""
        await self._cql.execute(_NOTE_USE, (used_at_ms * 1000, used_at_ms, key_hash))

    async def _rows(self, entries: Sequence[Any]) -> Sequence[ApiKeyRow]:
        found = await execute_each(self._cql, _FIND, [(entry.key_hash,) for entry in entries], _IN_FLIGHT_MAX)
        # The entry is written first: there may be none behind it yet.
        return [_key(row) for rows in found for row in rows if row.created_at is not None]


async def create_key_row(cql: Cql, row: ApiKeyRow) -> None:
    """Store a key; the same row again changes nothing. Raises Retryable."""
    # A key without its entry would pass and not be listed: the entry comes first.
    await cql.execute(_ENTER, (row.tenant_id, row.user_id, row.key_id, row.key_hash))
    values = (row.key_hash, row.key_id, row.tenant_id, row.user_id, row.plan, row.label, row.revoked)
    models = None if row.models is None else list(row.models)
    limits = (row.expires_at_ms, models, row.requests_per_minute, row.tokens_per_minute)
    await cql.execute(_INSERT, (*values, row.created_at_ms, *limits, row.created_at_ms * 1000))


async def list_key_rows(cql: Cql, rows_max: int) -> Sequence[ApiKeyRow]:
    """Up to ``rows_max`` keys, oldest first. Scans the table: for operators, not for requests. Raises Retryable."""
    rows = await cql.execute(_LIST, (rows_max,))
    # A revocation of a key that never existed leaves a row without its columns.
    keys = (_key(row) for row in rows if row.created_at is not None)
    return sorted(keys, key=lambda key: (key.created_at_ms, key.key_id))


async def revoke_key_rows(cql: Cql, key_id: str, now_ms: int, rows_max: int) -> Sequence[ApiKeyRow]:
    """Revoke the keys named ``key_id`` among the first ``rows_max``; which these were. Raises Retryable."""
    found = [row for row in await list_key_rows(cql, rows_max) if row.key_id == key_id]
    keys = CassandraApiKeys(cql)
    for row in found:
        await keys.revoke(row, now_ms)
    return found


def _key(row: Any) -> ApiKeyRow:
    return ApiKeyRow(
        key_hash=row.key_hash,
        key_id=row.key_id,
        tenant_id=row.tenant_id,
        user_id=row.user_id,
        plan=row.plan,
        label=row.label or "",
        created_at_ms=unix_ms(row.created_at),
        revoked=bool(row.revoked),
        expires_at_ms=None if row.expires_at is None else unix_ms(row.expires_at),
        models=None if row.models is None else tuple(row.models),
        requests_per_minute=row.requests_per_minute,
        tokens_per_minute=row.tokens_per_minute,
        last_used_at_ms=None if row.last_used_at is None else unix_ms(row.last_used_at),
    )
