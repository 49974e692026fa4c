"""Reads from the broker what a lag report needs."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from schemas.at_once import at_once
from schemas.ports import LogReader, TopicPartition
from turnstream.clocks import now_ms
from turnstream.insight.lag import Extent, GroupState, LagReport, build_lag, contract_groups, waiting_from
from turnstream.log.kafka_groups import describe_groups
from turnstream.log.kafka_log_reader import KafkaLogReader
from turnstream.log.kafka_topics import describe_topics
from turnstream.settings import Settings
from turnstream.wiring.topics import planned_topics

# Compaction and markers leave gaps: the next record may lie a little behind the offset that was asked for.
_LOOK_RECORDS: Final = 20


async def read_lag(settings: Settings) -> LagReport:
    """The lag of every group of the contract now. Raises Retryable or Fatal."""
    async with KafkaLogReader(settings.kafka) as reader:
        return await LagReader(settings, reader).read()


class LagReader:
    """Reads again and again over one connection; the topics are looked up once."""

    def __init__(self, settings: Settings, reader: LogReader) -> None:
        self._settings = settings
        self._reader = reader
        self._partitions: tuple[TopicPartition, ...] = ()

    async def read(self) -> LagReport:
        """The lag now. Raises Retryable or Fatal."""
        groups = contract_groups()
        if not self._partitions:
            self._partitions = await self._existing({topic for names in groups.values() for topic in names})
        described = await describe_groups(self._settings.kafka, tuple(groups))
        # After the commits: an end from before them would make a group look ahead of the log.
        extents = await self._extents(self._partitions)
        states = [GroupState(one.group, one.state, one.members, one.committed) for one in described]
        written = await self._written(waiting_from(states, extents), extents)
        return build_lag(states, extents, written, now_ms())

    async def _existing(self, names: Iterable[str]) -> tuple[TopicPartition, ...]:
        wanted = frozenset(names)
        plans = [plan for plan in planned_topics(self._settings) if plan.name in wanted]
        states = await describe_topics(self._settings.kafka, plans)
        return tuple(
            TopicPartition(state.plan.name, number) for state in states for number in range(state.partitions or 0)
        )

    async def _extents(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, Extent]:
        starts = await self._reader.offsets_at(partitions, 0)
        ends = await self._reader.end_offsets(partitions)
        return {one: Extent(min(starts[one], ends[one]), ends[one]) for one in partitions}

    async def _written(
        self, places: Iterable[tuple[TopicPartition, int]], extents: Mapping[TopicPartition, Extent]
    ) -> Mapping[tuple[TopicPartition, int], int]:
        found: dict[tuple[TopicPartition, int], int] = {}

        async def look(partition: TopicPartition, offset: int) -> None:
            stop = min(offset + _LOOK_RECORDS, extents[partition].end)
            records = await self._reader.read_range(partition, offset, stop)
            if records:
                found[partition, offset] = records[0].timestamp_ms

        await at_once(look(*place) for place in places)
        return found
