"""What the prompt stage reads from, in memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from schemas.errors import Retryable
from schemas.ports import StoredMessage


@dataclass
class MemoryHotContexts:
    """The prompt stage's ``HotContexts``; ``extend`` is what the sink does. ``down``: every call raises Retryable."""

    whole: dict[str, bool] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    messages: dict[str, dict[int, StoredMessage]] = field(default_factory=dict)
    down: bool = False
    rebuilds: int = 0

    async def read(self, conversation_ids: Sequence[str]) -> Mapping[str, Sequence[StoredMessage]]:
        self._check_up()
        return {
            conversation_id: [self.messages[conversation_id][seq] for seq in sorted(self.messages[conversation_id])]
            for conversation_id in conversation_ids
            if self.whole.get(conversation_id)
        }

    async def begin_rebuild(self, conversation_ids: Sequence[str]) -> str:
        self._check_up()
        self.rebuilds += 1
        token = f"rebuild-{self.rebuilds}"
        for conversation_id in conversation_ids:
            self.whole[conversation_id] = False
            self.tokens[conversation_id] = token
            self.messages.setdefault(conversation_id, {})
        return token

    async def finish_rebuild(self, token: str, contexts: Mapping[str, Sequence[StoredMessage]]) -> None:
        self._check_up()
        for conversation_id, messages in contexts.items():
            if self.tokens.get(conversation_id) == token:
                self.messages[conversation_id].update((stored.message_seq, stored) for stored in messages)
                self.whole[conversation_id] = True
                del self.tokens[conversation_id]

    async def extend(self, conversation_id: str, stored: StoredMessage) -> None:
        if conversation_id in self.messages:
            self.messages[conversation_id][stored.message_seq] = stored

    async def forget(self, conversation_id: str) -> None:
        for part in (self.whole, self.tokens, self.messages):
            part.pop(conversation_id, None)

    def _check_up(self) -> None:
        if self.down:
            raise Retryable("the memory contexts are down")


@dataclass
class MemoryHistory:
    """The ``History`` over a dictionary, oldest first. ``down``: every call raises Retryable."""

    stored: dict[str, list[StoredMessage]] = field(default_factory=dict)
    down: bool = False
    reads: int = 0

    async def recent(self, conversation_ids: Sequence[str], messages_max: int) -> Mapping[str, Sequence[StoredMessage]]:
        if self.down:
            raise Retryable("the memory history is down")
        self.reads += 1
        return {
            conversation_id: self.stored.get(conversation_id, [])[-messages_max:]
            for conversation_id in conversation_ids
        }

    async def older(self, places: Sequence[tuple[str, int]], messages_max: int) -> Sequence[Sequence[StoredMessage]]:
        if self.down:
            raise Retryable("the memory history is down")
        self.reads += 1
        return [
            [stored for stored in self.stored.get(conversation_id, []) if stored.message_seq <= seq][-messages_max:]
            for conversation_id, seq in places
        ]
