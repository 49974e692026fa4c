"""What stages need from the world, as protocols. Adapters implement them; the composition root passes them in.

Each port has an in-memory implementation (``tests/support``) and a real one, and one contract suite that
both pass.
"""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from schemas.errors import Malformed
from schemas.events import Account, Decision, Event, InferenceRequested, Message, RateLimits
from schemas.headers import Headers
from schemas.metrics import Counter, Gauge, Histogram
from schemas.tokens import TokenEvent
from schemas.topics import Topic

# --- the log ---------------------------------------------------------------------------------------


class TopicPartition(NamedTuple):
    """One partition of a topic."""

    topic: str
    partition: int


@dataclass(frozen=True, slots=True)
class Record:
    """A record as read from the log. ``timestamp_ms`` is the producer's clock (CreateTime)."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes
    headers: Headers
    timestamp_ms: int

    @property
    def source(self) -> TopicPartition:
        """The partition it lies in."""
        return TopicPartition(self.topic, self.partition)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record to append. ``partition`` None lets the key decide."""

    topic: str
    key: bytes
    value: bytes
    headers: Headers = ()
    partition: int | None = None


class Producer(Protocol):
    """Appends durably: acks=all, idempotent, in order per partition."""

    async def append(self, records: Sequence[Outgoing]) -> Sequence[int]:
        """Offsets of the records, in their order, once every one is acknowledged.

        Raises RecordTooLarge before anything is sent; OutcomeUnknown when a deadline passed or the broker
        failed, in which case any subset may be on the log.
        """
        ...


class GroupConsumer(Protocol):
    """A member of a consumer group. Commits are manual; a group without an offset starts at the earliest."""

    async def poll(self, records_max: int, wait_s: float) -> Sequence[Record]:
        """Up to ``records_max`` records, in order per partition; empty after ``wait_s`` without any."""
        ...

    async def commit(self, positions: Mapping[TopicPartition, int]) -> None:
        """Commit the offset of the next record to read per partition. Raises Retryable after a rebalance."""
        ...

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        """Deliver no more of these until resumed, while the membership stays alive."""
        ...

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        """Deliver these again."""
        ...

    def assignment(self) -> frozenset[TopicPartition]:
        """The partitions that this member holds now; empty until the group is joined."""
        ...

    def on_revoked(self, callback: "Callable[[frozenset[TopicPartition]], None]") -> None:
        """Call ``callback`` with partitions taken away, before anybody else may read them."""
        ...


class LogReader(Protocol):
    """Reads partitions by position, without a group and without committing."""

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """The offset that the next record of each partition will get."""
        ...

    async def offsets_at(self, partitions: Sequence[TopicPartition], timestamp_ms: int) -> Mapping[TopicPartition, int]:
        """Per partition the first offset whose record is not older than ``timestamp_ms``, or its end."""
        ...

    async def read_range(self, partition: TopicPartition, start: int, stop: int) -> Sequence[Record]:
        """The records with ``start <= offset < stop``. Raises Retryable when they cannot be read in time."""
        ...


class LogTail(Protocol):
    """Follows a fixed set of partitions from their end, for as long as the process lives."""

    async def poll(self, records_max: int, wait_s: float) -> Sequence[Record]:
        """The next records of any followed partition, in order per partition."""
        ...

    def position(self, partition: TopicPartition) -> int:
        """The offset up to which ``poll`` has returned the partition."""
        ...


# --- stages ----------------------------------------------------------------------------------------

EventT = TypeVar("EventT", bound=Event)


@dataclass(frozen=True, slots=True)
class Received(Generic[EventT]):
    """A decoded record."""

    event: EventT
    record: Record
    traceparent: str | None


@dataclass(frozen=True, slots=True)
class Emit:
    """An event for the log. ``partition`` is set for the tokens topic alone (``schemas.ids.turn_partition``)."""

    topic: Topic
    key: str
    event: Event
    turn_id: str | None
    partition: int | None = None


Outcome = Sequence[Emit] | Malformed


class BatchProcess(Protocol):
    """A stateless stage: what each received event becomes.

    Returns one outcome per event, in order: the events to emit, or Malformed for a poison record. Raises
    Retryable when a dependency is down: the whole batch is then given again, so effects must be idempotent.
    """

    async def __call__(self, batch: Sequence[Received[Any]]) -> Sequence[Outcome]:
        """The outcomes of ``batch``, in its order."""
        ...


class KeyedProcess(Protocol):
    """Long work on one record at a time per key, many keys at once: inference."""

    async def __call__(self, received: Received[Any]) -> None:
        """Return when the record is finished for good. Raises Retryable (given again, bounded) or Malformed.

        Cancelled when the partition is taken away or the process stops: another owner continues.
        """
        ...


class LogSink(Protocol):
    """Folds records into the outside world and says how far that is safe."""

    async def write(self, batch: Sequence[Received[Any]]) -> None:
        """Take records in log order. Raises Retryable: the same batch is given again."""
        ...

    def safe_position(self, partition: TopicPartition, position: int) -> int:
        """Given that all before ``position`` was written: from where a restart must read again, at most that."""
        ...

    def forget(self, partitions: frozenset[TopicPartition]) -> None:
        """Drop what is held of partitions that were taken away."""
        ...


# --- stores and services -----------------------------------------------------------------------------


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


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the policy says about a text."""

    decision: Decision
    categories: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()


class OutputPolicy(Protocol):
    """Moderation of an answer while it is written."""

    version: str

    def judge_output(self, text: str) -> Verdict:
        """The verdict on the answer so far. Pure."""
        ...


# --- inference -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Generated:
    """One step of generation: the next piece of text, and at the end why it ended.

    ``prompt_tokens`` and ``completion_tokens`` are totals of the engine's own count where it reports them.
    """

    text: str
    tokens: int
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None


class InferenceBackend(Protocol):
    """A server that generates text: Triton or an OpenAI-compatible upstream."""

    def generate(self, request: InferenceRequested, prefix: str) -> AsyncGenerator[Generated, None]:
        """Stream the answer to the prompt, continuing after ``prefix``.

        Closing the iterator cancels the generation on the server. Raises Retryable when the server cannot be
        reached or breaks off, Malformed when it rejects the request for good.
        """
        ...

    async def ready(self) -> bool:
        """Whether the server would take a request now."""
        ...

    async def close(self) -> None:
        """Close the connections to the server."""
        ...


# --- telemetry ------------------------------------------------------------------------------------------


class Metrics(Protocol):
    """Counts and times under the names of ``schemas.metrics``; label values never hold ids or content."""

    def count(self, name: Counter, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""
        ...

    def gauge(self, name: Gauge, value: float, **labels: str) -> None:
        """Set a gauge."""
        ...

    def observe(self, name: Histogram, value: float, **labels: str) -> None:
        """Add an observation, in the unit that the name ends with."""
        ...


# --- the edge ------------------------------------------------------------------------------------------


class AnswerReader(Protocol):
    """One client's view of one turn: the records that count, in order, exactly once."""

    async def next_events(self, wait_s: float) -> Sequence[TokenEvent]:
        """The next events, at least one; empty when ``wait_s`` passed without any (time for a heartbeat).

        Raises Retryable when the reader fell too far behind or the process is draining; it may carry the
        ``refusal`` to show.
        """
        ...

    def close(self) -> None:
        """Stop following the turn."""
        ...


class AnswerReaders(Protocol):
    """Opens views of turns."""

    def home_partition(self) -> int:
        """A tokens partition that this process reads, for a new turn."""
        ...

    def position(self, partition: int) -> int:
        """An offset before every record of a turn that is submitted after this call."""
        ...

    def open(self, turn_id: str) -> AnswerReader:
        """Follow a turn that has not been submitted yet; call it before submitting."""
        ...
