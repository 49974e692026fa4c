"""A conversation's stored messages, a page at a time: what the edge's history route reads."""

from collections.abc import Sequence
from typing import Any, Final

from schemas.content import Content
from schemas.messages import Message, Role
from schemas.ports import Cql, StoredMessage
from schemas.timestamps import unix_ms

COMPLETE: Final = "complete"

_COLUMNS: Final = "SELECT message_seq, turn_id, role, name, content, status, created_at FROM messages"
_NEWEST: Final = f"{_COLUMNS} WHERE conversation_id = ? LIMIT ?"
_NEWEST_BEFORE: Final = f"{_COLUMNS} WHERE conversation_id = ? AND message_seq < ? LIMIT ?"
_OLDEST: Final = f"{_COLUMNS} WHERE conversation_id = ? ORDER BY message_seq ASC LIMIT ?"
_OLDEST_AFTER: Final = f"{_COLUMNS} WHERE conversation_id = ? AND message_seq > ? ORDER BY message_seq ASC LIMIT ?"


class CassandraMessagePages:
    """Pages over the ``messages`` table, one query each."""

    def __init__(self, cql: Cql) -> None:
        self._cql = cql

    async def page(
        self, conversation_id: str, limit: int, after: int | None, *, newest_first: bool
    ) -> Sequence[StoredMessage]:
        """Up to ``limit`` messages strictly beyond ``after`` (a ``message_seq``) in the asked order.

        ``after`` None starts at the beginning of the order. Drafts and incomplete messages are included, marked so.
        An unknown conversation has no messages. Raises Retryable.
        """
        if after is None:
            query = _NEWEST if newest_first else _OLDEST
            rows = await self._cql.execute(query, (conversation_id, limit))
        else:
            query = _NEWEST_BEFORE if newest_first else _OLDEST_AFTER
            rows = await self._cql.execute(query, (conversation_id, after, limit))
        return tuple(_stored(row) for row in rows)


def _stored(row: Any) -> StoredMessage:
    return StoredMessage(
        message_seq=row.message_seq,
        turn_id=row.turn_id,
        message=Message(role=Role(row.role), content=Content(row.content), name=row.name),
        complete=row.status == COMPLETE,
        created_at_ms=unix_ms(row.created_at),
    )
