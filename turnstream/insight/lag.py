"""How far consumer groups are behind the log. Pure.

Lag is counted in records (the end of a partition minus what the group committed) and in time: the age of the oldest
record that is not committed, which is how long somebody has been waiting.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from schemas import topics
from schemas.ports import TopicPartition


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class PartitionLag(_Frozen):
    """One group on one partition. ``committed`` is None before the group's first commit: it begins at the start.

    ``age_ms`` is of the oldest record that is not committed; 0 without any, None when it cannot be told (retention
    or compaction took the record meanwhile).
    """

    topic: str
    partition: int
    committed: int | None
    end: int
    records: int
    age_ms: int | None


class TopicLag(_Frozen):
    """One group on one topic: the sum of its partitions' records, and the age of the oldest of them all."""

    topic: str
    records: int
    age_ms: int | None
    partitions: tuple[PartitionLag, ...]


class GroupLag(_Frozen):
    """One group of the contract. ``state`` is the broker's word: ``Stable``, ``Empty``, ``Dead`` and others."""

    group: str
    state: str
    members: int
    topics: tuple[TopicLag, ...]

    @property
    def records(self) -> int:
        """Records that are not committed, on all topics of the group."""
        return sum(topic.records for topic in self.topics)

    @property
    def age_ms(self) -> int | None:
        """The age of the oldest record that is not committed, None when it cannot be told."""
        return oldest(topic.age_ms for topic in self.topics)


class LagReport(_Frozen):
    """Every group of the contract at one time, Unix milliseconds."""

    at_ms: int
    groups: tuple[GroupLag, ...]


@dataclass(frozen=True, slots=True)
class GroupState:
    """What the broker says of a group; ``committed`` lacks the partitions without a commit."""

    group: str
    state: str
    members: int
    committed: Mapping[TopicPartition, int]


@dataclass(frozen=True, slots=True)
class Extent:
    """The offsets that a partition has: the oldest kept one, and the one that the next record gets."""

    start: int
    end: int


def contract_groups() -> Mapping[str, tuple[str, ...]]:
    """The topics of each group, in the order of the pipeline."""
    found: dict[str, list[str]] = {}
    for topic in topics.ALL_TOPICS:
        for group in topic.groups:
            found.setdefault(group, []).append(topic.name)
    return {group: tuple(names) for group, names in found.items()}


def next_offset(committed: int | None, extent: Extent) -> int:
    """Where a group goes on: after its commit, or at the oldest record that is still there."""
    return min(extent.end, max(extent.start, extent.start if committed is None else committed))


def waiting_from(
    states: Iterable[GroupState], extents: Mapping[TopicPartition, Extent]
) -> frozenset[tuple[TopicPartition, int]]:
    """The places of the oldest records that some group has not committed: their times tell the ages."""
    wanted = contract_groups()
    places = (
        (partition, next_offset(state.committed.get(partition), extent), extent.end)
        for state in states
        for partition, extent in extents.items()
        if partition.topic in wanted.get(state.group, ())
    )
    return frozenset((partition, offset) for partition, offset, end in places if offset < end)


def build_lag(
    states: Sequence[GroupState],
    extents: Mapping[TopicPartition, Extent],
    written_ms: Mapping[tuple[TopicPartition, int], int],
    now_ms: int,
) -> LagReport:
    """The report. ``written_ms`` holds the times of the records at ``waiting_from``, as far as they were found."""
    groups = contract_groups()

    def partition_lag(state: GroupState, partition: TopicPartition) -> PartitionLag:
        extent, committed = extents[partition], state.committed.get(partition)
        offset = next_offset(committed, extent)
        written = written_ms.get((partition, offset))
        return PartitionLag(
            topic=partition.topic,
            partition=partition.partition,
            committed=committed,
            end=extent.end,
            records=extent.end - offset,
            age_ms=0 if offset == extent.end else None if written is None else max(0, now_ms - written),
        )

    def topic_lag(state: GroupState, topic: str) -> TopicLag:
        partitions = tuple(partition_lag(state, one) for one in sorted(extents) if one.topic == topic)
        return TopicLag(
            topic=topic,
            records=sum(one.records for one in partitions),
            age_ms=oldest(one.age_ms for one in partitions),
            partitions=partitions,
        )

    return LagReport(
        at_ms=now_ms,
        groups=tuple(
            GroupLag(
                group=state.group,
                state=state.state,
                members=state.members,
                topics=tuple(topic_lag(state, topic) for topic in groups[state.group]),
            )
            for state in states
        ),
    )


def beyond(report: LagReport, *, seconds_max: float | None, records_max: int | None) -> tuple[str, ...]:
    """A line for every group that is further behind than allowed; an age that cannot be told is not too old."""
    found: list[str] = []
    for group in report.groups:
        age_s = (group.age_ms or 0) / 1000
        if seconds_max is not None and age_s > seconds_max:
            found.append(f"{group.group} is {age_s:.1f} s behind, more than {seconds_max:g} s")
        if records_max is not None and group.records > records_max:
            found.append(f"{group.group} is {group.records} records behind, more than {records_max}")
    return tuple(found)


def oldest(ages_ms: Iterable[int | None]) -> int | None:
    """The greatest of the known ages, None when one is unknown and no other is known to be above 0."""
    ages = list(ages_ms)
    known = max((age for age in ages if age is not None), default=0)
    return None if None in ages and known == 0 else known
