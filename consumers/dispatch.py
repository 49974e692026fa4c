"""Which record is worked on next when keys must keep their order and must not hold each other up. Pure."""

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from consumers.fair_queue import FairQueue
from schemas import headers
from schemas.ports import Record, TopicPartition

Lane = tuple[TopicPartition, bytes]


class HoldLimits(BaseModel):
    """How many records a member may hold before it stops taking more (it takes more again at half), and for whom.

    Tenants are fair to each other among the records that are held. One that sends more than fits hides those behind
    its own until enough of them are worked off: ``held_records_max`` and ``held_per_partition_records_max`` are how
    much is seen at once, ``held_bytes_max`` is what that may cost.
    """

    model_config = ConfigDict(frozen=True)

    in_flight_max: int = Field(default=1_024, ge=1, description="Records worked on at once, each of another key.")
    held_per_partition_records_max: int = Field(default=2_500, ge=1)
    held_records_max: int = Field(default=10_000, ge=1)
    held_bytes_max: int = Field(default=67_108_864, ge=1, description="Keys and values; one poll may go beyond it.")
    uncommitted_records_max: int = Field(
        default=10_000, ge=1, description="Per partition, from the oldest unfinished on: what a crash makes repeated."
    )
    tenant_weights: Mapping[str, Annotated[float, Field(gt=0)]] = Field(
        default={}, description="Shares of the capacity by tenant id; who is not named has weight 1."
    )
    tenant_in_flight_share_max: float = Field(
        default=1.0, gt=0, le=1, description="Of `in_flight_max`, for one tenant; idle capacity is then left idle."
    )

    @property
    def tenant_in_flight_max(self) -> int:
        """Records of one tenant that may be worked on at once."""
        return max(1, int(self.in_flight_max * self.tenant_in_flight_share_max))


@dataclass(frozen=True, slots=True, eq=False)
class Ticket:
    """A record that is being worked on; while it is, its key gives out no other."""

    record: Record
    lane: Lane
    tenant: str


class Dispatch:
    """One FIFO per key. Tenants (header ``tenant``) take turns by weight; inside a tenant its keys do.

    A share is counted in records, not in the time that they take.
    """

    def __init__(self, limits: HoldLimits) -> None:
        self._limits = limits
        self._waiting: dict[Lane, deque[Record]] = {}
        self._ready: FairQueue[Lane] = FairQueue(limits.tenant_weights, limits.tenant_in_flight_max)
        self._running: dict[Lane, Ticket] = {}
        self._held: Counter[TopicPartition] = Counter()
        self._bytes: Counter[TopicPartition] = Counter()

    @property
    def held(self) -> Mapping[TopicPartition, int]:
        """Records that wait or are worked on, per partition."""
        return self._held

    @property
    def room(self) -> int:
        """How many more records may be taken."""
        if self._bytes.total() >= self._limits.held_bytes_max:
            return 0
        return max(0, self._limits.held_records_max - self._held.total())

    def add(self, record: Record) -> None:
        """Put ``record`` behind the others of its key; a record without a key is a key of its own."""
        key = b"k" + record.key if record.key is not None else b"o%d" % record.offset
        lane = (record.source, key)
        self._held[record.source] += 1
        self._bytes[record.source] += _bytes(record)
        if lane not in self._waiting:
            self._waiting[lane] = deque()
            if lane not in self._running:
                self._ready.put(_tenant(record), lane)
        self._waiting[lane].append(record)

    def take(self) -> Ticket | None:
        """The next record to work on; None when none may be started now."""
        if len(self._running) >= self._limits.in_flight_max or (taken := self._ready.take()) is None:
            return None
        tenant, lane = taken
        queue = self._waiting[lane]
        ticket = self._running[lane] = Ticket(queue.popleft(), lane, tenant)
        if not queue:
            del self._waiting[lane]
        return ticket

    def finish(self, ticket: Ticket) -> None:
        """Free the key of ``ticket``. Means nothing for a ticket of a partition that was dropped meanwhile."""
        if self._running.get(ticket.lane) is not ticket:
            return
        del self._running[ticket.lane]
        self._release(ticket.record)
        self._ready.finish(ticket.tenant)
        if (queue := self._waiting.get(ticket.lane)) is not None:
            self._ready.put(_tenant(queue[0]), ticket.lane)

    def drop(self, partitions: frozenset[TopicPartition]) -> list[Ticket]:
        """Forget all records of ``partitions``; the tickets whose work must be cancelled."""
        cancelled = [ticket for lane, ticket in self._running.items() if lane[0] in partitions]
        for ticket in cancelled:
            del self._running[ticket.lane]
            self._ready.finish(ticket.tenant)
        for lane in [lane for lane in self._waiting if lane[0] in partitions]:
            del self._waiting[lane]
        self._ready.drop(lambda lane: lane[0] in partitions)
        for partition in partitions:
            self._held.pop(partition, None)
            self._bytes.pop(partition, None)
        return cancelled

    def overfull(self, held: frozenset[TopicPartition], paused: frozenset[TopicPartition]) -> frozenset[TopicPartition]:
        """Which of the ``held`` partitions should be paused, given those that are ``paused`` now.

        At its limit a partition is paused, and at a total limit all are; below half they go on.
        """
        if self._total_overfull(resuming=bool(paused) and paused == held):
            return held
        limit = self._limits.held_per_partition_records_max
        return frozenset(
            partition
            for partition in held
            if self._held[partition] >= (limit // 2 + 1 if partition in paused else limit)
        )

    def _total_overfull(self, *, resuming: bool) -> bool:
        limits = self._limits
        totals = ((self._held.total(), limits.held_records_max), (self._bytes.total(), limits.held_bytes_max))
        return any(total >= limit or (resuming and total > limit // 2) for total, limit in totals)

    def _release(self, record: Record) -> None:
        self._held[record.source] -= 1
        self._bytes[record.source] -= _bytes(record)
        if not self._held[record.source]:
            del self._held[record.source], self._bytes[record.source]


def _bytes(record: Record) -> int:
    return len(record.value) + len(record.key or b"")


def _tenant(record: Record) -> str:
    return headers.header(record.headers, headers.TENANT) or ""
