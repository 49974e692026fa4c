"""Which record is worked on next when keys must keep their order and must not hold each other up. Pure."""

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from schemas.ports import Record, TopicPartition


class HoldLimits(BaseModel):
    """How many records a member may hold before it stops taking more; it takes more again at half."""

    model_config = ConfigDict(frozen=True)

    in_flight_max: int = Field(default=256, ge=1, description="Records worked on at once, each of another key.")
    held_per_partition_records_max: int = Field(default=500, ge=1)
    held_records_max: int = Field(default=2_000, ge=1)


@dataclass(frozen=True, slots=True, eq=False)
class Ticket:
    """A record that is being worked on; while it is, its key gives out no other."""

    record: Record
    lane: tuple[TopicPartition, bytes]


class Dispatch:
    """One FIFO per key. Keys take turns: after a record of a key, every other waiting key comes first."""

    def __init__(self, limits: HoldLimits) -> None:
        self._limits = limits
        self._waiting: dict[tuple[TopicPartition, bytes], deque[Record]] = {}
        self._ready: deque[tuple[TopicPartition, bytes]] = deque()
        self._running: dict[tuple[TopicPartition, bytes], Ticket] = {}
        self._held: Counter[TopicPartition] = Counter()

    @property
    def held(self) -> Mapping[TopicPartition, int]:
        """Records that wait or are worked on, per partition."""
        return self._held

    @property
    def room(self) -> int:
        """How many more records may be taken."""
        return max(0, self._limits.held_records_max - self._held.total())

    def add(self, record: Record) -> None:
        """Put ``record`` behind the others of its key; a record without a key is a key of its own."""
        key = b"k" + record.key if record.key is not None else b"o%d" % record.offset
        lane = (record.source, key)
        self._held[record.source] += 1
        if lane not in self._waiting:
            self._waiting[lane] = deque()
            if lane not in self._running:
                self._ready.append(lane)
        self._waiting[lane].append(record)

    def take(self) -> Ticket | None:
        """The next record to work on; None when none may be started now."""
        while self._ready and len(self._running) < self._limits.in_flight_max:
            lane = self._ready.popleft()
            queue = self._waiting.get(lane)
            if queue:
                return self._start(lane, queue)
        return None

    def finish(self, ticket: Ticket) -> None:
        """Free the key of ``ticket``. Means nothing for a ticket of a partition that was dropped meanwhile."""
        if self._running.get(ticket.lane) is not ticket:
            return
        del self._running[ticket.lane]
        self._release(ticket.lane[0])
        if ticket.lane in self._waiting:
            self._ready.append(ticket.lane)

    def drop(self, partitions: frozenset[TopicPartition]) -> list[Ticket]:
        """Forget all records of ``partitions``; the tickets whose work must be cancelled."""
        cancelled = [ticket for lane, ticket in self._running.items() if lane[0] in partitions]
        for lane in [lane for lane in (*self._waiting, *self._running) if lane[0] in partitions]:
            self._waiting.pop(lane, None)
            self._running.pop(lane, None)
        self._ready = deque(lane for lane in self._ready if lane[0] not in partitions)
        for partition in partitions:
            self._held.pop(partition, None)
        return cancelled

    def overfull(self, held: frozenset[TopicPartition], paused: frozenset[TopicPartition]) -> frozenset[TopicPartition]:
        """Which of the ``held`` partitions should be paused, given those that are ``paused`` now.

        At the limit a partition is paused, and with the total limit all are; below half they go on.
        """
        total = self._held.total()
        total_limit, limit = self._limits.held_records_max, self._limits.held_per_partition_records_max
        if total >= total_limit or (paused == held and paused and total > total_limit // 2):
            return held
        return frozenset(
            partition
            for partition in held
            if self._held[partition] >= (limit // 2 + 1 if partition in paused else limit)
        )

    def _start(self, lane: tuple[TopicPartition, bytes], queue: deque[Record]) -> Ticket:
        ticket = Ticket(queue.popleft(), lane)
        self._running[lane] = ticket
        if not queue:
            del self._waiting[lane]
        return ticket

    def _release(self, partition: TopicPartition) -> None:
        self._held[partition] -= 1
        if not self._held[partition]:
            del self._held[partition]
