"""Owners of conversations in Cassandra: the table ``conversation_owners``."""

from collections.abc import Mapping, Sequence
from typing import Final

from schemas.ports import Cql, Owner
from stream_processors.bounded_gather import execute_each

SELECT_OWNER: Final = "SELECT tenant_id, user_id, deleted_at FROM conversation_owners WHERE conversation_id = ?"
INSERT_OWNER: Final = (
    "INSERT INTO conversation_owners (conversation_id, tenant_id, user_id, created_at) VALUES (?, ?, ?, ?) "
    "USING TIMESTAMP ?"
)
MICROSECONDS_PER_MS: Final = 1_000


class CassandraConversations:
    """The ``ConversationDirectory`` over Cassandra: single-partition statements, bounded and at once."""

    def __init__(self, cql: Cql, statements_in_flight_max: int) -> None:
        self._cql = cql
        self._in_flight_max = statements_in_flight_max

    async def owners(self, conversation_ids: Sequence[str]) -> Mapping[str, Owner]:
        """The owners of the conversations that exist, deleted ones left out. Raises Retryable."""
        values = [(conversation_id,) for conversation_id in conversation_ids]
        answers = await execute_each(self._cql, SELECT_OWNER, values, self._in_flight_max)
        return {
            conversation_id: Owner(row.tenant_id, row.user_id)
            for conversation_id, rows in zip(conversation_ids, answers, strict=True)
            for row in rows
            if row.deleted_at is None and row.user_id is not None
        }

    async def claim(self, owners: Mapping[str, Owner], created_at_ms: int) -> None:
        """Write the owners under the log's time, so that writing them again changes nothing. Raises Retryable."""
        timestamp_us = created_at_ms * MICROSECONDS_PER_MS
        values = [
            (conversation_id, owner.tenant_id, owner.user_id, created_at_ms, timestamp_us)
            for conversation_id, owner in owners.items()
        ]
        await execute_each(self._cql, INSERT_OWNER, values, self._in_flight_max)
