"""Conversations by their owner: the port ``ConversationRecords`` of the conversations API."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from producers.conversations.ports import ConversationChange, ListedConversation, StoredConversation
from schemas import deletions
from schemas.ports import Cql, Owner
from schemas.timestamps import unix_ms
from stream_processors.bounded_gather import execute_each
from turnstream.stores.deletions import note_deletion

_FIND: Final = (
    "SELECT title, auto_title, metadata, updated_at, deleted_at FROM conversations"
    " WHERE tenant_id = ? AND user_id = ? AND conversation_id = ?"
)
_LISTED: Final = "SELECT conversation_id, title, auto_title, updated_at, deleted_at FROM conversations WHERE "
_NEWEST: Final = _LISTED + "tenant_id = ? AND user_id = ? LIMIT ?"
_NEWEST_BEFORE: Final = _LISTED + "tenant_id = ? AND user_id = ? AND conversation_id < ? LIMIT ?"
_CREATE: Final = (
    "INSERT INTO conversations (tenant_id, user_id, conversation_id, title, metadata, updated_at)"
    " VALUES (?, ?, ?, ?, ?, ?) USING TIMESTAMP ?"
)
_OWN: Final = (
    "INSERT INTO conversation_owners (conversation_id, tenant_id, user_id, created_at) VALUES (?, ?, ?, ?)"
    " USING TIMESTAMP ?"
)
_RENAME: Final = (
    "UPDATE conversations USING TIMESTAMP ? SET title = ? WHERE tenant_id = ? AND user_id = ? AND conversation_id = ?"
)
_DESCRIBE: Final = (
    "UPDATE conversations USING TIMESTAMP ? SET metadata = ?"
    " WHERE tenant_id = ? AND user_id = ? AND conversation_id = ?"
)
# Deleting with a time of now hides whatever the sink writes again from the log: that has the log's older times.
_DELETE_MESSAGES: Final = "DELETE FROM messages USING TIMESTAMP ? WHERE conversation_id = ?"
_DELETE_ROW: Final = (
    "UPDATE conversations USING TIMESTAMP ? SET deleted_at = ?, title = null, auto_title = null, metadata = null"
    " WHERE tenant_id = ? AND user_id = ? AND conversation_id = ?"
)
_DISOWN: Final = "UPDATE conversation_owners USING TIMESTAMP ? SET deleted_at = ? WHERE conversation_id = ?"

_SCAN_ROWS_MAX: Final = 2_000
_IN_FLIGHT_MAX: Final = 64
_US_PER_MS: Final = 1_000


class CassandraConversationRecords:
    """``ConversationRecords`` over the tables ``conversations`` and ``conversation_owners``."""

    def __init__(self, cql: Cql) -> None:
        self._cql = cql

    async def create(self, owner: Owner, conversation_id: str, change: ConversationChange, now_ms: int) -> None:
        """As ``ConversationRecords.create``."""
        written_us = now_ms * _US_PER_MS
        row = (*_key(owner, conversation_id), change.title, dict(change.metadata or {}) or None, now_ms, written_us)
        await self._cql.execute(_CREATE, row)
        # The owner last: with it the conversation is there.
        await self._cql.execute(_OWN, (conversation_id, owner.tenant_id, owner.user_id, now_ms, written_us))

    async def find(self, owner: Owner, conversation_ids: Sequence[str]) -> Mapping[str, StoredConversation]:
        """As ``ConversationRecords.find``: one read each, up to 64 at once."""
        keys = [_key(owner, conversation_id) for conversation_id in conversation_ids]
        answers = await execute_each(self._cql, _FIND, keys, _IN_FLIGHT_MAX)
        return {
            conversation_id: _stored(conversation_id, row)
            for conversation_id, rows in zip(conversation_ids, answers, strict=True)
            for row in rows
            if row.deleted_at is None
        }

    async def newest(self, owner: Owner, conversations_max: int) -> Sequence[ListedConversation]:
        """As ``ConversationRecords.newest``, in pages of 2,000 rows."""
        found: list[ListedConversation] = []
        while (room := min(_SCAN_ROWS_MAX, conversations_max - len(found))) > 0:
            values: tuple[object, ...] = (owner.tenant_id, owner.user_id)
            if found:
                rows = await self._cql.execute(_NEWEST_BEFORE, (*values, found[-1].conversation_id, room))
            else:
                rows = await self._cql.execute(_NEWEST, (*values, room))
            found += [_listed(row) for row in rows]
            if len(rows) < room:
                break
        return found

    async def change(self, owner: Owner, conversation_id: str, change: ConversationChange, now_ms: int) -> None:
        """As ``ConversationRecords.change``."""
        key, written_us = _key(owner, conversation_id), now_ms * _US_PER_MS
        if change.title is not None:
            await self._cql.execute(_RENAME, (written_us, change.title, *key))
        if change.metadata is not None:
            await self._cql.execute(_DESCRIBE, (written_us, dict(change.metadata), *key))

    async def delete(self, owner: Owner, conversation_id: str, now_ms: int) -> None:
        """As ``ConversationRecords.delete``; the owner last, so that whoever is told to try again may."""
        written_us = now_ms * _US_PER_MS
        await note_deletion(self._cql, conversation_id, deletions.CONVERSATION, now_ms)
        await self._cql.execute(_DELETE_MESSAGES, (written_us, conversation_id))
        await self._cql.execute(_DELETE_ROW, (written_us, now_ms, *_key(owner, conversation_id)))
        await self._cql.execute(_DISOWN, (written_us, now_ms, conversation_id))


def _key(owner: Owner, conversation_id: str) -> tuple[str, str, str]:
    return (owner.tenant_id, owner.user_id, conversation_id)


def _stored(conversation_id: str, row: Any) -> StoredConversation:
    return StoredConversation(
        conversation_id=conversation_id,
        title=row.title or row.auto_title,
        metadata=dict(row.metadata or {}),
        updated_at_ms=unix_ms(row.updated_at) if row.updated_at else 0,
    )


def _listed(row: Any) -> ListedConversation:
    return ListedConversation(
        conversation_id=row.conversation_id,
        title=row.title or row.auto_title,
        updated_at_ms=unix_ms(row.updated_at) if row.updated_at else 0,
        deleted=row.deleted_at is not None,
    )
