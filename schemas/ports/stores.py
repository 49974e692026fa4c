"""Stores and services that stages ask."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from schemas.events import Account, Message, RateLimits


class Cql(Protocol):
    """A Cassandra session, without blocking the event loop."""

    async def execute(self, query: str, values: Sequence[object] = ()) -> Sequence[Any]:
        """The rows (named tuples) of one CQL query with ``?`` markers, prepared once. Raises Retryable."""
        ...


class KeyDirectory(Protocol):
    """API keys by their hash."""

    async def accounts(self, key_hashes: Sequence[str]) -> Mapping[str, Account]:
        """The accounts of the active keys among ``key_hashes``; others are absent. Raises Retryable."""
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
    """A message of a conversation's history."""

    message_seq: int
    turn_id: str
    message: Message
    complete: bool
    created_at_ms: int


class History(Protocol):
    """The stored messages of conversations, oldest first."""

    async def recent(self, conversation_ids: Sequence[str], messages_max: int) -> Mapping[str, Sequence[StoredMessage]]:
        """The last ``messages_max`` final messages of each conversation, oldest first; no drafts. Raises Retryable."""
        ...


@dataclass(frozen=True, slots=True)
class Reservation:
    """What a turn asks of its quotas."""

    turn_id: str
    account: Account
    tokens: int


@dataclass(frozen=True, slots=True)
class Grant:
    """The limiter's answer. Refused by ``scope`` ("requests" or "tokens") when ``scope`` is not None."""

    limits: RateLimits
    scope: str | None = None
    retry_after_ms: int = 0


class Quota(Protocol):
    """Request and token quotas; every operation is atomic and idempotent per turn id."""

    async def reserve(self, reservations: Sequence[Reservation]) -> Sequence[Grant]:
        """One grant per reservation, in order. The same turn id gets the same grant again. Raises Retryable."""
        ...

    async def settle(self, used: Sequence[tuple[Account, str, int]]) -> None:
        """Replace the reserved tokens of (account, turn id) by the tokens really used. Raises Retryable."""
        ...
