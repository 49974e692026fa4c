"""The stores in memory: what Cassandra and Redis keep of conversations, with switches for their failures."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import islice
from operator import attrgetter

from consumers.cassandra_sink.ports import ContextUpdate
from consumers.cassandra_sink.rows import ConversationRow, MessageRow, TitleRow, TurnRow, stored_messages
from schemas.accounts import Account, Credential
from schemas.answer_extras import read_extras
from schemas.errors import Retryable
from schemas.events import Api
from schemas.ports import Owner, StoredAnswer, StoredMessage, TurnClaim, UsageRow
from schemas.stream_state import INITIAL, StreamState
from schemas.tokens import Cleared
from turnstream.stores.stored_answers import stored_piece

_KEY_OF_MESSAGE = ("conversation_id", "message_seq")
_KEY_OF_TURN = ("turn_id",)
_KEY_OF_CONVERSATION = ("tenant_id", "user_id", "conversation_id")


@dataclass(frozen=True, slots=True)
class Cell:
    """A value and when it was written, in microseconds."""

    value: object
    written_us: int


class LastWriteWins:
    """A table as Cassandra keeps it: per cell the newest write wins; None writes nothing."""

    def __init__(self, key: Sequence[str]) -> None:
        self._key = tuple(key)
        self.rows: dict[tuple[object, ...], dict[str, Cell]] = {}

    def write(self, row: MessageRow | ConversationRow | TurnRow | TitleRow) -> None:
        key = tuple(getattr(row, name) for name in self._key)
        cells = self.rows.setdefault(key, {})
        for column in fields(row):
            value = getattr(row, column.name)
            if value is None or column.name == "written_us":
                continue
            if column.name not in cells or cells[column.name].written_us <= row.written_us:
                cells[column.name] = Cell(value, row.written_us)

    def values(self) -> list[dict[str, object]]:
        return [{name: cell.value for name, cell in cells.items()} for _, cells in sorted(self.rows.items(), key=repr)]


class MemoryRows:
    """``ConversationRows``, and ``MessagePages``, ``History`` and ``StoredAnswers`` over what was written."""

    def __init__(self) -> None:
        self._messages = LastWriteWins(_KEY_OF_MESSAGE)
        self._conversations = LastWriteWins(_KEY_OF_CONVERSATION)
        self._turns = LastWriteWins(_KEY_OF_TURN)
        self._titles = LastWriteWins(_KEY_OF_CONVERSATION)
        self._metadata: dict[str, Mapping[str, str]] = {}
        self._deleted: set[str] = set()
        self.failures_left = 0
        self.rows_before_failure = 0
        self.writes = 0

    def fail(self, times: int, *, rows_before: int = 0) -> None:
        """The next ``times`` calls raise Retryable, after ``rows_before`` of their rows are durable."""
        self.failures_left, self.rows_before_failure = times, rows_before

    async def write(
        self,
        messages: Sequence[MessageRow],
        conversations: Sequence[ConversationRow],
        turns: Sequence[TurnRow] = (),
        titles: Sequence[TitleRow] = (),
    ) -> None:
        if self.failures_left and (messages or conversations):
            self.failures_left -= 1
            for message in messages[: self.rows_before_failure]:
                self._messages.write(message)
            raise Retryable("the memory store was told to fail")
        self.writes += len(messages)
        for message in messages:
            self._messages.write(message)
        for conversation in conversations:
            self._conversations.write(conversation)
        for turn in turns:
            self._turns.write(turn)
        for title in titles:
            self._titles.write(title)

    def messages(self) -> list[MessageRow]:
        """All message rows, by conversation and ``message_seq``; ``written_us`` is 0, since cells have their own."""
        optional = {column.name: None for column in fields(MessageRow)}
        rows = [MessageRow(**{**optional, **values, "written_us": 0}) for values in self._messages.values()]  # type: ignore[arg-type]
        return sorted(rows, key=attrgetter("conversation_id", "message_seq"))

    def conversations(self) -> list[ConversationRow]:
        rows = self._conversations.values()
        return [ConversationRow(**{**values, "written_us": 0}) for values in rows]  # type: ignore[arg-type]

    def titles(self) -> dict[str, str]:
        """The title of each conversation that gave itself one."""
        return {str(row["conversation_id"]): str(row["auto_title"]) for row in self._titles.values()}

    def turns(self) -> list[TurnRow]:
        """All turn rows, by turn id."""
        rows = [TurnRow(**{"usage": None, **values, "written_us": 0}) for values in self._turns.values()]  # type: ignore[arg-type]
        return sorted(rows, key=attrgetter("turn_id"))

    async def find(self, turn_id: str) -> StoredAnswer | None:
        for turn in self.turns():
            texts = {row.message_seq: row.content.text for row in self.messages() if row.turn_id == turn_id}
            text = texts.get(turn.answer_seq, "")
            wanted = turn.turn_id == turn_id and turn_id not in self._deleted
            if wanted and len(text) == sum(turn.piece_chars):
                return _stored_answer(turn, text, self._metadata.get(turn_id))
        return None

    async def find_all(self, turn_ids: Sequence[str]) -> Sequence[StoredAnswer]:
        found = [await self.find(turn_id) for turn_id in turn_ids]
        return [stored for stored in found if stored is not None]

    async def deleted(self, turn_id: str) -> bool:
        return turn_id in self._deleted

    async def delete(self, stored: StoredAnswer) -> None:
        self._deleted.add(stored.turn_id)

    async def set_metadata(self, turn_id: str, metadata: Mapping[str, str]) -> None:
        self._metadata[turn_id] = dict(metadata)

    async def of_user(
        self, owner: tuple[str, str], api: Api, after: str | None, limit: int, *, newest_first: bool
    ) -> Sequence[str]:
        theirs = [turn.turn_id for turn in self.turns() if (turn.tenant_id, turn.user_id, turn.api) == (*owner, api)]
        ordered = sorted(set(theirs) - self._deleted, reverse=newest_first)
        if after is not None:
            ordered = [one for one in ordered if (one < after if newest_first else one > after)]
        return ordered[:limit]

    async def page(
        self, conversation_id: str, limit: int, after: int | None, *, newest_first: bool
    ) -> Sequence[StoredMessage]:
        stored = stored_messages(tuple(row for row in self.messages() if row.conversation_id == conversation_id))
        ordered = sorted(stored, key=attrgetter("message_seq"), reverse=newest_first)
        if after is not None:
            ordered = [one for one in ordered if (one.message_seq < after if newest_first else one.message_seq > after)]
        return ordered[:limit]

    async def recent(self, conversation_ids: Sequence[str], messages_max: int) -> Mapping[str, Sequence[StoredMessage]]:
        histories: dict[str, Sequence[StoredMessage]] = {}
        for conversation_id in conversation_ids:
            rows = tuple(
                row for row in self.messages() if row.conversation_id == conversation_id and row.status != "streaming"
            )
            histories[conversation_id] = stored_messages(rows[-messages_max:])
        return histories


def _stored_answer(turn: TurnRow, text: str, metadata: Mapping[str, str] | None) -> StoredAnswer:
    rest = iter(text)
    extras = read_extras(turn.extras.text if turn.extras else None)
    return StoredAnswer(
        turn_id=turn.turn_id,
        conversation_id=turn.conversation_id,
        tenant_id=turn.tenant_id,
        user_id=turn.user_id,
        model=turn.model,
        submitted_at_ms=turn.submitted_at_ms,
        pieces=tuple(
            stored_piece("".join(islice(rest, chars)), extras.get(seq)) for seq, chars in enumerate(turn.piece_chars)
        ),
        finish_reason=turn.finish_reason,
        usage=turn.usage,
        answer_seq=turn.answer_seq,
        api=turn.api,
        request=turn.request,
        metadata=metadata,
        choices=turn.choices,
        choice_reasons=turn.choice_reasons,
    )


@dataclass
class MemoryContexts:
    """The sink's ``HotContexts``: conversations that are hot, with what they hold. ``down``: nothing is confirmed."""

    hot: dict[str, dict[int, StoredMessage]] = field(default_factory=dict)
    messages_max: int = 64
    down: bool = False
    calls: int = 0

    def warm(self, conversation_id: str, messages: Sequence[StoredMessage] = ()) -> None:
        """What the prompt stage does on a miss."""
        self.hot[conversation_id] = {stored.message_seq: stored for stored in messages}

    def seqs(self, conversation_id: str) -> list[int]:
        return sorted(self.hot[conversation_id])

    async def refresh(self, updates: Sequence[ContextUpdate], doubtful: Sequence[str]) -> None:
        if not updates and not doubtful:
            return
        self.calls += 1
        if self.down:
            raise Retryable("the memory cache is down")
        for conversation_id in doubtful:
            self.hot.pop(conversation_id, None)
        for update in updates:
            context = self.hot.get(update.conversation_id)
            if context is None:
                continue
            context.update((stored.message_seq, stored) for stored in update.messages)
            for seq in sorted(context)[: -self.messages_max]:
                del context[seq]


@dataclass
class MemoryAccountDirectory:
    """``AccountDirectory`` over a dictionary from the names of credentials (key hashes, session ids) to accounts."""

    keys: dict[str, Account] = field(default_factory=dict)
    down: bool = False

    async def accounts(self, credentials: Sequence[Credential]) -> Mapping[str, Account]:
        if self.down:
            raise Retryable("the memory account directory is down")
        return {one.name: self.keys[one.name] for one in credentials if one.name in self.keys}


@dataclass
class MemoryConversationDirectory:
    """``ConversationDirectory`` over a dictionary; the first claim of a conversation stays."""

    conversations: dict[str, Owner] = field(default_factory=dict)
    down: bool = False

    async def owners(self, conversation_ids: Sequence[str]) -> Mapping[str, Owner]:
        if self.down:
            raise Retryable("the memory conversation directory is down")
        return {one: self.conversations[one] for one in conversation_ids if one in self.conversations}

    async def claim(self, owners: Mapping[str, Owner], created_at_ms: int) -> None:
        if self.down:
            raise Retryable("the memory conversation directory is down")
        del created_at_ms
        for conversation_id, owner in owners.items():
            self.conversations.setdefault(conversation_id, owner)


@dataclass
class MemoryActiveTurns:
    """``ActiveTurns`` over a set of (conversation id, turn id)."""

    rows: set[tuple[str, str]] = field(default_factory=set)
    down: bool = False

    def _answer(self) -> None:
        if self.down:
            raise Retryable("the memory active turns are down")

    async def active(self, conversation_ids: Sequence[str]) -> Mapping[str, Sequence[str]]:
        self._answer()
        return {one: tuple(sorted(turn for of, turn in self.rows if of == one)) for one in conversation_ids}

    async def begin(self, turns: Mapping[str, str]) -> None:
        self._answer()
        self.rows |= {(conversation_id, turn_id) for turn_id, conversation_id in turns.items()}

    async def end(self, turns: Mapping[str, str]) -> None:
        self._answer()
        self.rows -= {(conversation_id, turn_id) for turn_id, conversation_id in turns.items()}


@dataclass
class MemoryTurnClaims:
    """``TurnClaims`` over a dictionary. With ``lost`` answers, what was asked for is done and Retryable raised."""

    claims: dict[str, TurnClaim] = field(default_factory=dict)
    down: bool = False
    lost: int = 0

    async def claim(self, scope: str, wanted: TurnClaim) -> TurnClaim:
        if self.down:
            raise Retryable("the memory claims are down")
        return self._answered(self.claims.setdefault(scope, wanted))

    async def replace(self, scope: str, turn_id: str, wanted: TurnClaim) -> TurnClaim:
        if self.down:
            raise Retryable("the memory claims are down")
        if scope in self.claims and self.claims[scope].turn_id == turn_id:
            self.claims[scope] = wanted
        return self._answered(self.claims.setdefault(scope, wanted))

    def _answered(self, claim: TurnClaim) -> TurnClaim:
        if self.lost:
            self.lost -= 1
            raise Retryable("the answer was lost")
        return claim


@dataclass
class MemoryTurnLookup:
    """``TurnLookup`` over the states that a test sets; counts the turns that were asked for. ``hung``: no answers."""

    states: dict[str, StreamState] = field(default_factory=dict)
    down: bool = False
    hung: bool = False
    asked: list[str] = field(default_factory=list)

    async def find(self, turn_id: str) -> StreamState:
        self.asked.append(turn_id)
        if self.down:
            raise Retryable("the memory lookup is down")
        if self.hung:
            await asyncio.Event().wait()
        return self.states.get(turn_id, INITIAL)

    async def clearance(self, turn_id: str) -> Cleared | None:
        return (await self.find(turn_id)).cleared


@dataclass
class MemoryUsageRows:
    """``UsageRows`` over a dictionary."""

    rows: dict[str, UsageRow] = field(default_factory=dict)
    down: bool = False

    async def store(self, rows: Sequence[UsageRow]) -> None:
        if self.down:
            raise Retryable("the memory usage is down")
        self.rows.update({row.turn_id: row for row in rows})

    async def days(self, owner: Owner, first_day: int, last_day: int) -> Sequence[UsageRow]:
        if self.down:
            raise Retryable("the memory usage is down")
        return [
            row
            for row in self.rows.values()
            if (row.tenant_id, row.user_id) == (owner.tenant_id, owner.user_id)
            and first_day <= row.submitted_at_ms // 86_400_000 <= last_day
        ]
