"""The stores of the conversations API in memory, over what a test or the scripted stages put there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from producers.conversations.ports import (
    ConversationChange,
    ConversationPorts,
    ListedConversation,
    StoredConversation,
    TreeNode,
)
from schemas.content import Content
from schemas.errors import Retryable
from schemas.messages import Message
from schemas.ports import Owner, StoredMessage
from tests.support.memory_stores import MemoryActiveTurns, MemoryConversationDirectory


@dataclass
class _Row:
    owner: Owner
    title: str | None = None
    auto_title: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    updated_at_ms: int = 0
    deleted: bool = False


@dataclass
class MemoryConversations:
    """``ConversationRecords``, ``MessageTree`` and ``ContextDrops``; ``drops_fail``: Redis does not answer."""

    directory: MemoryConversationDirectory
    rows: dict[str, _Row] = field(default_factory=dict)
    messages_of: dict[str, dict[int, StoredMessage]] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)
    drops_fail: bool = False

    def ports(self, active: MemoryActiveTurns) -> ConversationPorts:
        return ConversationPorts(records=self, tree=_Tree(self), contexts=self, active=active)

    def store(
        self, owner: Owner, conversation_id: str, *messages: StoredMessage, auto_title: str | None = None
    ) -> None:
        """What auth and the sink do with a turn."""
        self.directory.conversations.setdefault(conversation_id, owner)
        row = self.rows.setdefault(conversation_id, _Row(owner))
        row.auto_title = row.auto_title or auto_title
        tree = self.messages_of.setdefault(conversation_id, {})
        for stored in messages:
            tree[stored.message_seq] = stored
            row.updated_at_ms = max(row.updated_at_ms, stored.created_at_ms)

    async def create(self, owner: Owner, conversation_id: str, change: ConversationChange, now_ms: int) -> None:
        self.rows[conversation_id] = _Row(owner, updated_at_ms=now_ms)
        await self.change(owner, conversation_id, change, now_ms)
        await self.directory.claim({conversation_id: owner}, now_ms)

    async def find(self, owner: Owner, conversation_ids: Sequence[str]) -> Mapping[str, StoredConversation]:
        rows = {one: self.rows[one] for one in conversation_ids if one in self.rows}
        return {
            one: StoredConversation(one, row.title or row.auto_title, row.metadata, row.updated_at_ms)
            for one, row in rows.items()
            if row.owner == owner and not row.deleted
        }

    async def newest(self, owner: Owner, conversations_max: int) -> Sequence[ListedConversation]:
        mine = sorted((one for one, row in self.rows.items() if row.owner == owner), reverse=True)
        return [
            ListedConversation(one, row.title or row.auto_title, row.updated_at_ms, row.deleted)
            for one, row in ((one, self.rows[one]) for one in mine[:conversations_max])
        ]

    async def change(self, owner: Owner, conversation_id: str, change: ConversationChange, now_ms: int) -> None:
        del now_ms
        row = self.rows.setdefault(conversation_id, _Row(owner))
        row.title = row.title if change.title is None else change.title
        row.metadata = row.metadata if change.metadata is None else change.metadata

    async def delete(self, owner: Owner, conversation_id: str, now_ms: int) -> None:
        del now_ms
        row = self.rows.setdefault(conversation_id, _Row(owner))
        row.deleted, row.title, row.auto_title = True, None, None
        self.messages_of.pop(conversation_id, None)
        self.directory.conversations.pop(conversation_id, None)

    async def drop(self, conversation_id: str) -> None:
        if self.drops_fail:
            raise Retryable("the memory cache is down")
        self.dropped.append(conversation_id)


@dataclass
class _Tree:
    of: MemoryConversations

    async def nodes(self, conversation_id: str, nodes_max: int) -> Sequence[TreeNode]:
        stored = self.of.messages_of.get(conversation_id, {})
        newest = sorted(stored)[-nodes_max:]
        return [TreeNode(seq, stored[seq].parent_seq, stored[seq].deleted) for seq in newest]

    async def messages(self, conversation_id: str, seqs: Sequence[int]) -> Sequence[StoredMessage]:
        stored = self.of.messages_of.get(conversation_id, {})
        return [stored[seq] for seq in seqs if seq in stored]

    async def delete(self, conversation_id: str, message_seq: int, now_ms: int) -> None:
        del now_ms
        stored = self.of.messages_of[conversation_id]
        gone = Message(role=stored[message_seq].message.role, content=Content(""))
        stored[message_seq] = replace(stored[message_seq], message=gone, deleted=True)
