"""What the conversations API asks of the stores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from schemas.ports import ActiveTurns, Owner, StoredMessage


@dataclass(frozen=True, slots=True)
class StoredConversation:
    """What is kept of a conversation beside its messages; ``title`` is the user's own, or else its first question."""

    conversation_id: str
    title: str | None
    metadata: Mapping[str, str]
    updated_at_ms: int


@dataclass(frozen=True, slots=True)
class ListedConversation:
    """A conversation in its user's list. Deleted ones keep their place, for those who page past them."""

    conversation_id: str
    title: str | None
    updated_at_ms: int
    deleted: bool


@dataclass(frozen=True, slots=True)
class ConversationChange:
    """What to write; None leaves a part as it is. An empty ``title`` is that of the first question again."""

    title: str | None = None
    metadata: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class TreeNode:
    """A message's place in the tree (``schemas.branches``), without what it says."""

    message_seq: int
    parent_seq: int | None
    deleted: bool


class ConversationRecords(Protocol):
    """Conversations by their owner. Every method raises Retryable; times are Unix milliseconds."""

    async def create(self, owner: Owner, conversation_id: str, change: ConversationChange, now_ms: int) -> None:
        """A conversation without messages, which its owner may continue from now on."""
        ...

    async def find(self, owner: Owner, conversation_ids: Sequence[str]) -> Mapping[str, StoredConversation]:
        """Those that have a row; one that has just begun may have none yet, a deleted one has none any more."""
        ...

    async def newest(self, owner: Owner, conversations_max: int) -> Sequence[ListedConversation]:
        """The owner's conversations, deleted ones too, the last created first."""
        ...

    async def change(self, owner: Owner, conversation_id: str, change: ConversationChange, now_ms: int) -> None:
        """Write what is in ``change``; the last write wins."""
        ...

    async def delete(self, owner: Owner, conversation_id: str, now_ms: int) -> None:
        """Delete all that the conversation says, for good: nothing of before ``now_ms`` that is written later shows.

        A tombstone stays: nobody continues it, and it is in no list. May be repeated.
        """
        ...


class MessageTree(Protocol):
    """The messages of one conversation as a tree. Every method raises Retryable."""

    async def nodes(self, conversation_id: str, nodes_max: int) -> Sequence[TreeNode]:
        """The newest ``nodes_max`` messages, oldest first: drafts, incomplete and deleted ones too."""
        ...

    async def messages(self, conversation_id: str, seqs: Sequence[int]) -> Sequence[StoredMessage]:
        """The messages with these ``message_seq``, in their order; those that do not exist are left out."""
        ...

    async def delete(self, conversation_id: str, message_seq: int, now_ms: int) -> None:
        """Delete what a message says, for good; its place in the tree stays. May be repeated."""
        ...


class ContextDrops(Protocol):
    """The hot contexts, as far as this API touches them."""

    async def drop(self, conversation_id: str) -> None:
        """Make the next prompt read the history again. Raises Retryable when that cannot be confirmed."""
        ...


@dataclass(frozen=True, slots=True)
class ConversationPorts:
    """The stores of the conversations API."""

    records: ConversationRecords
    tree: MessageTree
    contexts: ContextDrops
    active: ActiveTurns
