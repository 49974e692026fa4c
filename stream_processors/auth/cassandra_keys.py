"""API keys in Cassandra: the table ``api_keys``."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from schemas.accounts import Account
from schemas.ports import Cql
from stream_processors.bounded_gather import execute_each

SELECT_KEY: Final = "SELECT key_id, tenant_id, user_id, plan, revoked FROM api_keys WHERE key_hash = ?"


class CassandraKeys:
    """The ``KeyDirectory`` over Cassandra: one single-partition read per key, bounded and at once."""

    def __init__(self, cql: Cql, statements_in_flight_max: int) -> None:
        self._cql = cql
        self._in_flight_max = statements_in_flight_max

    async def accounts(self, key_hashes: Sequence[str]) -> Mapping[str, Account]:
        """The accounts of the keys that exist and are not revoked. Raises Retryable."""
        values = [(key_hash,) for key_hash in key_hashes]
        answers = await execute_each(self._cql, SELECT_KEY, values, self._in_flight_max)
        return {
            key_hash: Account(tenant_id=row.tenant_id, user_id=row.user_id, key_id=row.key_id, plan=row.plan)
            for key_hash, rows in zip(key_hashes, answers, strict=True)
            for row in rows
            if _is_usable(row)
        }


def _is_usable(row: Any) -> bool:
    # A revocation is an upsert: of a key that never was, it leaves a row without an account.
    return not row.revoked and None not in (row.tenant_id, row.user_id, row.key_id, row.plan)
