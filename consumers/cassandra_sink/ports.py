"""What the sink writes to, as protocols: the durable rows and the hot contexts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from consumers.cassandra_sink.rows import ConversationRow, MessageRow, TitleRow, TurnRow
from schemas.ports import StoredMessage


@dataclass(frozen=True, slots=True)
class ContextUpdate:
    """The messages with which one turn extends its conversation's hot context, oldest first."""

    conversation_id: str
    messages: tuple[StoredMessage, ...]


class ConversationRows(Protocol):
    """The durable rows. Of two writes of one row the one with the higher ``written_us`` wins, in any order."""

    async def write(
        self,
        messages: Sequence[MessageRow],
        conversations: Sequence[ConversationRow],
        turns: Sequence[TurnRow] = (),
        titles: Sequence[TitleRow] = (),
    ) -> None:
        """Return when all are durable. Raises Retryable, in which case any subset may be."""
        ...


class HotContexts(Protocol):
    """The recent messages of conversations, in a cache that the prompt stage fills and the sink extends."""

    async def refresh(self, updates: Sequence[ContextUpdate], doubtful: Sequence[str]) -> None:
        """Drop the contexts of the ``doubtful`` conversations, then extend those of ``updates`` that exist.

        Raises Retryable when the cache did not confirm every one.
        """
        ...
