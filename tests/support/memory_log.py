"""The log in memory: deterministic, one event loop, and with switches for what a broker does on a bad day.

It keeps the contract of the log ports (``tests/contract/log`` runs on it and on Kafka). Differences to Kafka: a
rebalance happens at once when a member joins or leaves, and a read beyond the end fails at once.
"""

import asyncio
from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Self

from schemas.errors import Malformed, OutcomeUnknown, Retryable
from schemas.headers import Headers
from schemas.ports import OnLanded, Outgoing, Record, TopicPartition
from tests.support.posting import post
from turnstream.log.partitioning import partition_of_key
from turnstream.log.record_size import check_size

_LOOK_S: Final = 0.002


class MemoryLog:
    """A broker. Unknown topics have ``partitions`` partitions."""

    def __init__(self, partitions: int = 4, topics: Mapping[str, int] | None = None) -> None:
        self.now_ms = 1_700_000_000_000
        self.ranges_read = 0
        self._partitions_default = partitions
        self._partitions = dict(topics or {})
        self._records: dict[TopicPartition, list[Record]] = defaultdict(list)
        self._ends: dict[TopicPartition, int] = defaultdict(int)
        self._groups: dict[str, MemoryGroup] = {}
        self._changed = asyncio.Event()
        self._append_faults: deque[bool] = deque()
        self._commit_faults = 0

    # --- what a test sets and looks at ------------------------------------------------------------------

    def tick_ms(self) -> int:
        """The time of the log, a millisecond later each time it is asked."""
        self.now_ms += 1
        return self.now_ms

    def fail_next_append(self, *, landing: bool, times: int = 1) -> None:
        """The next appends raise OutcomeUnknown; with ``landing`` their records are on the log nevertheless."""
        self._append_faults.extend([landing] * times)

    def fail_next_commit(self, times: int = 1) -> None:
        """The next commits raise Retryable and change nothing."""
        self._commit_faults += times

    def put(
        self,
        topic: str,
        key: bytes | None,
        value: bytes,
        headers: Headers = (),
        partition: int | None = None,
        *,
        timestamp_ms: int | None = None,
    ) -> Record:
        """Append one record at once."""
        count = self.partitions_of(topic)
        number = partition if partition is not None else partition_of_key(key or b"", count)
        source = TopicPartition(topic, number)
        record = Record(
            topic,
            number,
            self._ends[source],
            key,
            value,
            headers,
            self.now_ms if timestamp_ms is None else timestamp_ms,
        )
        self._records[source].append(record)
        self._ends[source] += 1
        self.wake()
        return record

    def leave_gap(self, partition: TopicPartition, offsets: int) -> None:
        """Use up ``offsets`` offsets without a record, as compaction and transaction markers do."""
        self._ends[partition] += offsets
        self.wake()

    def expire(self, partition: TopicPartition, before: int) -> None:
        """Let retention take the records below ``before``."""
        self._records[partition] = [record for record in self._records[partition] if record.offset >= before]

    def records(self, topic: str) -> list[Record]:
        """All records of ``topic``, partition after partition."""
        sources = [TopicPartition(topic, number) for number in range(self.partitions_of(topic))]
        return [record for source in sources for record in self._records[source]]

    def topics(self) -> list[str]:
        """Every topic that has a record."""
        return sorted({source.topic for source, records in self._records.items() if records})

    def committed(self, group: str) -> dict[TopicPartition, int]:
        """The committed positions of ``group``."""
        return dict(self.group(group).committed)

    async def until(self, condition: Callable[[], bool], seconds_max: float = 5) -> None:
        """Return as soon as ``condition`` holds; it is looked at after every change, and every few milliseconds."""
        async with asyncio.timeout(seconds_max):
            while not condition():
                await self.change(_LOOK_S)

    def partitions_of(self, topic: str) -> int:
        """How many partitions ``topic`` has."""
        return self._partitions.get(topic, self._partitions_default)

    # --- the ports --------------------------------------------------------------------------------------

    def producer(self) -> "MemoryProducer":
        """A ``Producer``."""
        return MemoryProducer(self)

    def consumer(self, group: str, topics: Sequence[str]) -> "MemoryGroupConsumer":
        """A ``GroupConsumer``; it joins when its context is entered."""
        return MemoryGroupConsumer(self, self.group(group), topics)

    def reader(self) -> "MemoryLogReader":
        """A ``LogReader``."""
        return MemoryLogReader(self)

    def tail(self, partitions: Sequence[TopicPartition]) -> "MemoryLogTail":
        """A ``LogTail`` that starts at the present end."""
        return MemoryLogTail(self, partitions)

    # --- inside -----------------------------------------------------------------------------------------

    def group(self, name: str) -> "MemoryGroup":
        return self._groups.setdefault(name, MemoryGroup(self))

    def end(self, partition: TopicPartition) -> int:
        return self._ends[partition]

    def slice(self, partition: TopicPartition, start: int, stop: int | None = None) -> list[Record]:
        records = self._records[partition]
        high = len(records) if stop is None else bisect_left(records, stop, key=_offset)
        return records[bisect_left(records, start, key=_offset) : high]

    def wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def change(self, wait_s: float) -> bool:
        """Whether anything changed within ``wait_s`` seconds."""
        try:
            async with asyncio.timeout(wait_s):
                await self._changed.wait()
        except TimeoutError:
            return False
        return True

    def take_append_fault(self) -> bool | None:
        return self._append_faults.popleft() if self._append_faults else None

    def take_commit_fault(self) -> bool:
        failing = self._commit_faults > 0
        self._commit_faults -= failing
        return failing


def _offset(record: Record) -> int:
    return record.offset


class MemoryProducer:
    """``Producer`` of a MemoryLog."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None: ...

    async def append(self, records: Sequence[Outgoing]) -> Sequence[int]:
        self._check(records)
        await asyncio.sleep(0)
        landing = self._log.take_append_fault()
        if landing is False:
            raise OutcomeUnknown("switched on by the test")
        offsets = [
            self._log.put(
                one.topic, one.key, one.value, one.headers, one.partition, timestamp_ms=one.timestamp_ms
            ).offset
            for one in records
        ]
        if landing:
            raise OutcomeUnknown("switched on by the test")
        return offsets

    def post(self, records: Sequence[Outgoing], on_landed: OnLanded) -> None:
        self._check(records)
        post(self.append, records, on_landed)

    def _check(self, records: Sequence[Outgoing]) -> None:
        for record in records:
            check_size(record)
            if record.partition is not None and record.partition >= self._log.partitions_of(record.topic):
                raise Malformed(f"{record.topic} has no partition {record.partition}")


class MemoryGroup:
    """Members of one group, what each holds, and what they committed."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log
        self.members: list[MemoryGroupConsumer] = []
        self.committed: dict[TopicPartition, int] = {}

    def join(self, member: "MemoryGroupConsumer") -> None:
        self.members.append(member)
        self._rebalance()

    def leave(self, member: "MemoryGroupConsumer") -> None:
        if member in self.members:
            self.members.remove(member)
            member.assigned(frozenset())
            self._rebalance()

    def _rebalance(self) -> None:
        """Balanced to one, and sticky: a partition moves only if its member has too many."""
        wanted = sorted(
            TopicPartition(topic, number)
            for topic in {topic for member in self.members for topic in member.topics}
            for number in range(self._log.partitions_of(topic))
        )
        shares = _shares(self.members, wanted)
        for member, share in shares.items():
            member.assigned(frozenset(share))
        self._log.wake()


def _shares(
    members: "Sequence[MemoryGroupConsumer]", wanted: Sequence[TopicPartition]
) -> "dict[MemoryGroupConsumer, list[TopicPartition]]":
    if not members:
        return {}
    least, larger = divmod(len(wanted), len(members))
    kept: dict[MemoryGroupConsumer, list[TopicPartition]] = {}
    by_held = sorted(members, key=lambda member: -len(member.assignment()))
    for index, member in enumerate(by_held):
        quota = least + (index < larger)
        kept[member] = [partition for partition in wanted if partition in member.assignment()][:quota]
    free = deque(partition for partition in wanted if all(partition not in share for share in kept.values()))
    for index, member in enumerate(by_held):
        while len(kept[member]) < least + (index < larger):
            kept[member].append(free.popleft())
    return kept


class MemoryGroupConsumer:
    """``GroupConsumer`` of a MemoryLog. ``paused`` and ``polls`` are there for tests to look at."""

    def __init__(self, log: MemoryLog, group: MemoryGroup, topics: Sequence[str]) -> None:
        self.topics = tuple(topics)
        self.paused: set[TopicPartition] = set()
        self.polls = 0
        self._log = log
        self._group = group
        self._held: frozenset[TopicPartition] = frozenset()
        self._positions: dict[TopicPartition, int] = {}
        self._callbacks: list[Callable[[frozenset[TopicPartition]], None]] = []

    async def __aenter__(self) -> Self:
        self._group.join(self)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._group.leave(self)

    async def poll(self, records_max: int, wait_s: float) -> Sequence[Record]:
        self.polls += 1
        await asyncio.sleep(0)
        found = self._next(records_max)
        while not found and await self._log.change(wait_s):
            found = self._next(records_max)
        return found

    async def commit(self, positions: Mapping[TopicPartition, int]) -> None:
        await asyncio.sleep(0)
        if self._log.take_commit_fault() or not positions.keys() <= self._held:
            raise Retryable("the group rebalanced")
        self._group.committed.update(positions)
        self._log.wake()

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        self.paused.update(partitions)

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        self.paused.difference_update(partitions)
        self._log.wake()

    def assignment(self) -> frozenset[TopicPartition]:
        return self._held

    def on_revoked(self, callback: Callable[[frozenset[TopicPartition]], None]) -> None:
        self._callbacks.append(callback)

    def assigned(self, held: frozenset[TopicPartition]) -> None:
        """Take over a new assignment; what stays goes on where it was."""
        lost, gained = self._held - held, held - self._held
        self._held = held
        self.paused -= lost
        for partition in lost:
            self._positions.pop(partition, None)
        for partition in gained:
            self._positions[partition] = self._group.committed.get(partition, 0)
        if lost:
            for callback in self._callbacks:
                callback(lost)

    def _next(self, records_max: int) -> list[Record]:
        found: list[Record] = []
        for partition in sorted(self._held - self.paused):
            records = self._log.slice(partition, self._positions[partition])[: records_max - len(found)]
            if records:
                self._positions[partition] = records[-1].offset + 1
                found += records
        return found


class MemoryLogReader:
    """``LogReader`` of a MemoryLog. ``reads`` counts the ranges that were asked for."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log
        self.reads = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None: ...

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        await asyncio.sleep(0)
        return {partition: self._log.end(partition) for partition in partitions}

    async def offsets_at(self, partitions: Sequence[TopicPartition], timestamp_ms: int) -> Mapping[TopicPartition, int]:
        await asyncio.sleep(0)
        return {partition: self._offset_at(partition, timestamp_ms) for partition in partitions}

    async def read_range(self, partition: TopicPartition, start: int, stop: int) -> Sequence[Record]:
        self.reads += 1
        self._log.ranges_read += 1
        await asyncio.sleep(0)
        if start >= stop:
            return ()
        if stop > self._log.end(partition):
            raise Retryable("the range is not on the log yet")
        return self._log.slice(partition, start, stop)

    async def offsets_of(self, partition: TopicPartition, key: bytes, start: int, stop: int) -> Sequence[int]:
        return [record.offset for record in await self.read_key(partition, key, start, stop)]

    async def read_key(self, partition: TopicPartition, key: bytes, start: int, stop: int) -> Sequence[Record]:
        return [record for record in await self.read_range(partition, start, stop) if record.key == key]

    def _offset_at(self, partition: TopicPartition, timestamp_ms: int) -> int:
        newer: Iterable[int] = (
            record.offset for record in self._log.slice(partition, 0) if record.timestamp_ms >= timestamp_ms
        )
        return next(iter(newer), self._log.end(partition))


class MemoryLogTail:
    """``LogTail`` of a MemoryLog."""

    def __init__(self, log: MemoryLog, partitions: Sequence[TopicPartition]) -> None:
        self._log = log
        self._positions = {partition: log.end(partition) for partition in partitions}

    async def __aenter__(self) -> Self:
        self._positions = {partition: self._log.end(partition) for partition in self._positions}
        return self

    async def __aexit__(self, *exc_info: object) -> None: ...

    async def poll(self, records_max: int, wait_s: float) -> Sequence[Record]:
        await asyncio.sleep(0)
        found = self._next(records_max)
        while not found and await self._log.change(wait_s):
            found = self._next(records_max)
        return found

    def position(self, partition: TopicPartition) -> int:
        return self._positions[partition]

    async def follow(self, partition: TopicPartition) -> None:
        await asyncio.sleep(0)
        self._positions.setdefault(partition, self._log.end(partition))

    def unfollow(self, partition: TopicPartition) -> None:
        self._positions.pop(partition, None)

    def _next(self, records_max: int) -> list[Record]:
        found: list[Record] = []
        for partition, position in tuple(self._positions.items()):
            records = self._log.slice(partition, position)[: records_max - len(found)]
            if records:
                self._positions[partition] = records[-1].offset + 1
                found += records
        return found
