"""The messages of a conversation as a tree: the port ``MessageTree`` of the conversations API."""

from collections.abc import Sequence
from typing import Any, Final

from producers.conversations.ports import TreeNode
from schemas.content import Content
from schemas.deletions import message_subject
from schemas.messages import Message, Role, decode_tool_calls
from schemas.ports import Cql, StoredMessage
from schemas.timestamps import unix_ms
from turnstream.stores.deletions import note_deletion

_NODES: Final = "SELECT message_seq, parent_seq, deleted_at FROM messages WHERE conversation_id = ? LIMIT ?"
_NODES_BEFORE: Final = (
    "SELECT message_seq, parent_seq, deleted_at FROM messages WHERE conversation_id = ? AND message_seq < ? LIMIT ?"
)
_MESSAGES: Final = (
    "SELECT message_seq, parent_seq, turn_id, role, name, content, tool_calls, tool_call_id, status, created_at,"
    " deleted_at FROM messages WHERE conversation_id = ? AND message_seq IN ?"
)
# With a time of now, which hides what the sink writes again from the log.
_DELETE: Final = (
    "UPDATE messages USING TIMESTAMP ? SET deleted_at = ?, content = null, name = null, tool_calls = null"
    " WHERE conversation_id = ? AND message_seq = ?"
)

_SCAN_ROWS_MAX: Final = 4_000
_US_PER_MS: Final = 1_000


class CassandraMessageTree:
    """``MessageTree`` over the table ``messages``."""

    def __init__(self, cql: Cql) -> None:
        self._cql = cql

    async def nodes(self, conversation_id: str, nodes_max: int) -> Sequence[TreeNode]:
        """As ``MessageTree.nodes``, in pages of 4,000 rows."""
        found: list[TreeNode] = []
        while (room := min(_SCAN_ROWS_MAX, nodes_max - len(found))) > 0:
            if found:
                rows = await self._cql.execute(_NODES_BEFORE, (conversation_id, found[-1].message_seq, room))
            else:
                rows = await self._cql.execute(_NODES, (conversation_id, room))
            found += [TreeNode(row.message_seq, row.parent_seq, row.deleted_at is not None) for row in rows]
            if len(rows) < room:
                break
        return found[::-1]

    async def messages(self, conversation_id: str, seqs: Sequence[int]) -> Sequence[StoredMessage]:
        """As ``MessageTree.messages``: one read."""
        if not seqs:
            return []
        rows = await self._cql.execute(_MESSAGES, (conversation_id, list(seqs)))
        found = {row.message_seq: _stored(row) for row in rows}
        return [found[seq] for seq in seqs if seq in found]

    async def delete(self, conversation_id: str, message_seq: int, now_ms: int) -> None:
        """As ``MessageTree.delete``."""
        await note_deletion(self._cql, conversation_id, message_subject(message_seq), now_ms)
        await self._cql.execute(_DELETE, (now_ms * _US_PER_MS, now_ms, conversation_id, message_seq))


def _stored(row: Any) -> StoredMessage:
    return StoredMessage(
        message_seq=row.message_seq,
        turn_id=row.turn_id or "",
        message=Message(
            role=Role(row.role),
            content=Content(row.content or ""),
            name=row.name,
            tool_calls=decode_tool_calls(row.tool_calls),
            tool_call_id=row.tool_call_id,
        ),
        complete=row.status == "complete",
        created_at_ms=unix_ms(row.created_at),
        parent_seq=row.parent_seq,
        deleted=row.deleted_at is not None,
        streaming=row.status == "streaming",
    )
