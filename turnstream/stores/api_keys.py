"""The ``api_keys`` table, as ``turnstream keys`` writes it. Only hashes come here, never a key's text."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from schemas.ports import Cql
from turnstream.stores.timestamps import unix_ms

_INSERT: Final = (
    "INSERT INTO api_keys (key_hash, key_id, tenant_id, user_id, plan, label, revoked, created_at)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?"
)
_REVOKE: Final = "UPDATE api_keys USING TIMESTAMP ? SET revoked = true WHERE key_hash = ?"
_LIST: Final = "SELECT key_hash, key_id, tenant_id, user_id, plan, label, revoked, created_at FROM api_keys LIMIT ?"


@dataclass(frozen=True, slots=True)
class ApiKeyRow:
    """One API key; ``key_hash`` is its keyed hash (64 hexadecimal characters), ``key_id`` its public name."""

    key_hash: str
    key_id: str
    tenant_id: str
    user_id: str
    plan: str
    label: str
    created_at_ms: int
    revoked: bool = False


async def create_key_row(cql: Cql, row: ApiKeyRow) -> None:
    """Store a key; the same row again changes nothing. Raises Retryable."""
    values = (row.key_hash, row.key_id, row.tenant_id, row.user_id, row.plan, row.label, row.revoked)
    await cql.execute(_INSERT, (*values, row.created_at_ms, row.created_at_ms * 1000))


async def list_key_rows(cql: Cql, rows_max: int) -> Sequence[ApiKeyRow]:
    """Up to ``rows_max`` keys, oldest first. Scans the table: for operators, not for requests. Raises Retryable."""
    rows = await cql.execute(_LIST, (rows_max,))
    keys = (
        ApiKeyRow(
            key_hash=row.key_hash,
            key_id=row.key_id,
            tenant_id=row.tenant_id,
            user_id=row.user_id,
            plan=row.plan,
            label=row.label or "",
            created_at_ms=unix_ms(row.created_at),
            revoked=bool(row.revoked),
        )
        for row in rows
        # A revocation of a key that never existed leaves a row without its columns.
        if row.created_at is not None
    )
    return sorted(keys, key=lambda key: (key.created_at_ms, key.key_id))


async def revoke_key_rows(cql: Cql, key_id: str, now_ms: int, rows_max: int) -> int:
    """Revoke the keys named ``key_id`` among the first ``rows_max``; how many there were. Raises Retryable."""
    found = [row for row in await list_key_rows(cql, rows_max) if row.key_id == key_id]
    for row in found:
        # Never older than the creation, or a clock that went back would lose the revocation.
        written_us = max(now_ms, row.created_at_ms + 1) * 1000
        await cql.execute(_REVOKE, (written_us, row.key_hash))
    return len(found)
