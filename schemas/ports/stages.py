"""Stages: what the consume loop gives them and takes from them."""

from collections.abc import Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from schemas.errors import Malformed
from schemas.event import Event
from schemas.ports.log import Record, TopicPartition
from schemas.topics import Topic

EventT = TypeVar("EventT", bound=Event)


class Received(NamedTuple, Generic[EventT]):
    """A decoded record."""

    event: EventT
    record: Record
    traceparent: str | None


class Emit(NamedTuple):
    """An event for the log.

    ``partition`` is set for the tokens topic alone (``schemas.ids.turn_partition``). ``carried`` says that the stage
    which reads the topic has already had the event, from the process that emits it: it will pass the record over.
    ``tenant`` becomes a header, for readers that share their capacity between tenants before they decode.
    """

    topic: Topic
    key: str
    event: Event
    turn_id: str | None
    partition: int | None = None
    carried: bool = False
    tenant: str | None = None


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
