"""The log: records, and who appends, consumes and reads them."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from schemas.headers import Headers


class TopicPartition(NamedTuple):
    """One partition of a topic."""

    topic: str
    partition: int


class Record(NamedTuple):
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


class Outgoing(NamedTuple):
    """A record to append. ``partition`` None lets the key decide; ``timestamp_ms`` None means the time of appending."""

    topic: str
    key: bytes
    value: bytes
    headers: Headers = ()
    partition: int | None = None
    timestamp_ms: int | None = None


# Told the offsets of posted records, in their order, once all are acknowledged; None when nobody knows whether they are
# on the log. Must not raise.
OnLanded = Callable[[Sequence[int] | None], None]


class Producer(Protocol):
    """Appends durably: acks=all, idempotent, in order per partition."""

    async def append(self, records: Sequence[Outgoing]) -> Sequence[int]:
        """Offsets of the records, in their order, once every one is acknowledged.

        Raises RecordTooLarge, or Malformed for a partition that does not exist, before anything is sent;
        OutcomeUnknown when a deadline passed or the broker failed: any subset may then be on the log.
        """
        ...


class PostingProducer(Producer, Protocol):
    """A producer that also takes records from whoever has no task that could wait for them."""

    def post(self, records: Sequence[Outgoing], on_landed: OnLanded) -> None:
        """As ``append``, but at once, and ``on_landed`` is called instead of a return or an OutcomeUnknown."""
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
        """Call ``callback`` with partitions taken away, as soon as this member knows of it."""
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

    async def offsets_of(self, partition: TopicPartition, key: bytes, start: int, stop: int) -> Sequence[int]:
        """The offsets of the records with ``key`` among those, in their order. Raises Retryable likewise."""
        ...

    async def read_key(self, partition: TopicPartition, key: bytes, start: int, stop: int) -> Sequence[Record]:
        """The records with ``key`` among those themselves. Raises Retryable likewise."""
        ...


class LogTail(Protocol):
    """Follows partitions from their end, each for as long as it is wanted."""

    async def poll(self, records_max: int, wait_s: float) -> Sequence[Record]:
        """The next records of any followed partition, in order per partition."""
        ...

    def position(self, partition: TopicPartition) -> int:
        """The offset up to which ``poll`` has returned the partition. KeyError for one that is not followed."""
        ...

    async def follow(self, partition: TopicPartition) -> None:
        """Follow one more, from its present end; the others go on where they are. Raises Retryable."""
        ...

    def unfollow(self, partition: TopicPartition) -> None:
        """Follow it no more."""
        ...
