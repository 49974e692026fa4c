"""Stores and services that stages ask."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from schemas.accounts import Account, Credential
from schemas.content import Content
from schemas.events import CHAT, Api, FinishReason, Usage
from schemas.generation import TokenLogprob, ToolCallDelta
from schemas.limits import LimitWindow
from schemas.messages import Message


class Cql(Protocol):
    """A Cassandra session, without blocking the event loop."""

    async def execute(self, query: str, values: Sequence[object] = ()) -> Sequence[Any]:
        """The rows (named tuples) of one CQL query with ``?`` markers, prepared once. Raises Retryable."""
        ...


class Upsert(NamedTuple):
    """A row to write: a query as for ``Cql.execute``, and ``partition``, the values of the row's partition key."""

    partition: tuple[object, ...]
    query: str
    values: Sequence[object]


class WritingCql(Cql, Protocol):
    """A Cassandra session that takes many rows at once."""

    async def write(self, upserts: Sequence[Upsert]) -> None:
        """Return when all are durable. Raises Retryable, in which case any subset may be.

        The rows of a partition are sent together, a bounded number at a time.
        """
        ...


class AccountDirectory(Protocol):
    """Accounts by what proves them."""

    async def accounts(self, credentials: Sequence[Credential]) -> Mapping[str, Account]:
        """The accounts of the active keys and sessions among ``credentials``, by ``Credential.name``.

        Absent are those that are unknown, revoked or ended, and those of a suspended user. Whether a key has expired
        is the caller's to see, who knows the time. Raises Retryable.
        """
        ...


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose a conversation is."""

    tenant_id: str
    user_id: str


class ConversationDirectory(Protocol):
    """Ownership of conversations."""

    async def owners(self, conversation_ids: Sequence[str]) -> Mapping[str, Owner]:
        """The owners of the conversations that exist; others are absent. Raises Retryable."""
        ...

    async def claim(self, owners: Mapping[str, Owner], created_at_ms: int) -> None:
        """Record new conversations, idempotently. Raises Retryable."""
        ...


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message of a conversation's history.

    ``parent_seq`` as in ``schemas.branches``. ``deleted``: its content is gone, its place in the tree is not.
    ``streaming``: a draft of an answer that is being written.
    """

    message_seq: int
    turn_id: str
    message: Message
    complete: bool
    created_at_ms: int
    parent_seq: int | None = None
    deleted: bool = False
    streaming: bool = False


class History(Protocol):
    """The stored messages of conversations, oldest first."""

    async def recent(self, conversation_ids: Sequence[str], messages_max: int) -> Mapping[str, Sequence[StoredMessage]]:
        """The last ``messages_max`` final messages of each conversation, oldest first; no drafts. Raises Retryable."""
        ...

    async def older(self, places: Sequence[tuple[str, int]], messages_max: int) -> Sequence[Sequence[StoredMessage]]:
        """Per (conversation id, ``message_seq``) the last final messages at or before it, as ``recent``."""
        ...


class Reservation(NamedTuple):
    """What a turn asks of its quotas. Not settled within ``hold_ms``, it is given back: the turn is taken for lost."""

    turn_id: str
    account: Account
    tokens: int
    hold_ms: int


class Lost(NamedTuple):
    """A reservation that was given back because nobody settled it in time."""

    turn_id: str
    key_id: str
    tokens: int


class Grant(NamedTuple):
    """The limiter's answer: every quota of the account as the turn found and left it; ``refused_by`` had no room.

    ``lost`` are reservations of the same user that were given back on this occasion.
    """

    windows: tuple[LimitWindow, ...]
    refused_by: LimitWindow | None = None
    retry_after_ms: int = 0
    lost: tuple[Lost, ...] = ()


class Quota(Protocol):
    """Request and token quotas and running turns; every operation is atomic and idempotent per turn id."""

    async def reserve(self, reservations: Sequence[Reservation]) -> Sequence[Grant]:
        """One grant per reservation, in order. The same turn id gets the same grant again. Raises Retryable."""
        ...

    async def settle(self, used: Sequence[tuple[Account, str, int]]) -> Sequence[tuple[LimitWindow, ...] | None]:
        """Replace the reserved tokens of (account, turn id) by the tokens really used; the turn runs no more.

        Per turn the quotas after it, the same again when it comes again; None for one that holds no grant. Raises
        Retryable.
        """
        ...


@dataclass(frozen=True, slots=True)
class TurnClaim:
    """The turn that an idempotency key stands for. ``request_hash`` is a keyed hash of the request, in hex."""

    turn_id: str
    conversation_id: str
    tokens_from: int
    request_hash: str


class TurnClaims(Protocol):
    """Idempotency keys and their turns. ``scope`` is a keyed hash of tenant, user and key, in hex."""

    async def claim(self, scope: str, wanted: TurnClaim) -> TurnClaim:
        """The claim that holds ``scope``: ``wanted`` if it was free, else the one that is there.

        Raises Retryable; ``wanted`` may hold it then, or not.
        """
        ...

    async def replace(self, scope: str, turn_id: str, wanted: TurnClaim) -> TurnClaim:
        """The claim that holds ``scope`` now: ``wanted`` if it was that of ``turn_id``. Raises Retryable."""
        ...


class ActiveTurns(Protocol):
    """Which turns may be running in stored conversations; a hint that outlives its truth, never the other way."""

    async def active(self, conversation_ids: Sequence[str]) -> Mapping[str, Sequence[str]]:
        """Per conversation the ids of turns that began and were not ended, oldest first. Raises Retryable."""
        ...

    async def begin(self, turns: Mapping[str, str]) -> None:
        """Note turns (turn id -> conversation id), idempotently; notes expire by themselves. Raises Retryable."""
        ...

    async def end(self, turns: Mapping[str, str]) -> None:
        """Forget turns (turn id -> conversation id), idempotently. Raises Retryable."""
        ...


@dataclass(frozen=True, slots=True)
class StoredPiece:
    """What one accepted delta said (``schemas.tokens.Delta``)."""

    text: str
    choice: int = 0
    tool_calls: tuple[ToolCallDelta, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()

    @property
    def plain(self) -> bool:
        """Whether it is text of the only answer, and nothing else."""
        return not (self.choice or self.tool_calls or self.logprobs)


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """A finished, stored turn as the log had it; ``pieces`` are its accepted deltas in order.

    ``finish_reason`` CANCELLED or FAILED says that the answer was cut short. ``request`` is ``Turn.request``;
    ``metadata`` replaces what it says of metadata, if the client has changed it since.
    """

    turn_id: str
    conversation_id: str
    tenant_id: str
    user_id: str
    model: str
    submitted_at_ms: int
    pieces: tuple[StoredPiece, ...]
    finish_reason: FinishReason
    usage: Usage | None
    answer_seq: int = 0
    api: Api = CHAT
    request: Content | None = None
    metadata: Mapping[str, str] | None = None
    choices: int = 1
    choice_reasons: tuple[FinishReason, ...] = ()


class StoredAnswers(Protocol):
    """Answers of stored turns: the objects that clients list, and streams that the log has forgotten."""

    async def find(self, turn_id: str) -> StoredAnswer | None:
        """The answer of an ended turn, or None when no such turn was stored, or it was deleted. Raises Retryable."""
        ...

    async def deleted(self, turn_id: str) -> bool:
        """Whether the turn's object was deleted. Raises Retryable."""
        ...

    async def delete(self, stored: StoredAnswer) -> None:
        """Delete the turn's object; its messages stay with their conversation. Raises Retryable."""
        ...

    async def set_metadata(self, turn_id: str, metadata: Mapping[str, str]) -> None:
        """Replace the metadata of a turn that is there. Raises Retryable."""
        ...

    async def of_user(
        self, owner: tuple[str, str], api: Api, after: str | None, limit: int, *, newest_first: bool
    ) -> Sequence[str]:
        """Ids of up to ``limit`` turns of (tenant, user) beyond ``after``, in order of their ids. Raises Retryable."""
        ...

    async def find_all(self, turn_ids: Sequence[str]) -> Sequence[StoredAnswer]:
        """Those of the turns that are there, in order. Raises Retryable."""
        ...


@dataclass(frozen=True, slots=True)
class UsageRow:
    """What one turn used. Written as often as one likes: its turn id is its name."""

    tenant_id: str
    user_id: str
    turn_id: str
    key_id: str
    model: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    submitted_at_ms: int


class UsageRows(Protocol):
    """The usage of each turn, by user and day (days since 1970, UTC, of the turn's submission)."""

    async def store(self, rows: Sequence[UsageRow]) -> None:
        """Keep these rows, idempotently. Raises Retryable."""
        ...

    async def days(self, owner: Owner, first_day: int, last_day: int) -> Sequence[UsageRow]:
        """The user's rows of these days, both included, in no certain order. Raises Retryable."""
        ...
