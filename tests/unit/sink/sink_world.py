"""A sink with everything it touches, in memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from consumers.cassandra_sink.core import CassandraSinkSettings
from consumers.cassandra_sink.ports import HotContexts
from consumers.cassandra_sink.stage import PersistAnswers
from schemas.errors import Retryable
from schemas.messages import Role
from schemas.ports import Record, TopicPartition
from schemas.serde import encode
from schemas.tokens import Probed, TokenEvent
from tests.support.answer_records import PARTITION, AnswerRecords, CountedMetrics
from tests.support.memory_stores import MemoryContexts, MemoryRows


@dataclass
class RecordsReader:
    """The ``LogReader`` port over ``AnswerRecords``; ``read`` counts the records that were read."""

    log: AnswerRecords
    read: int = 0
    down: bool = False

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        return dict.fromkeys(partitions, len(self.log.records))

    async def offsets_at(self, partitions: Sequence[TopicPartition], timestamp_ms: int) -> Mapping[TopicPartition, int]:
        if self.down:
            raise Retryable("the log was told to fail")
        newer = (one.record.offset for one in self.log.records if one.record.timestamp_ms >= timestamp_ms)
        return dict.fromkeys(partitions, next(newer, len(self.log.records)))

    async def read_range(self, partition: TopicPartition, start: int, stop: int) -> Sequence[Record]:
        assert partition == PARTITION
        found = self.log.between(start, stop)
        self.read += len(found)
        return [one.record._replace(key=_key(one.event), value=encode(one.event)) for one in found]

    async def offsets_of(self, partition: TopicPartition, key: bytes, start: int, stop: int) -> Sequence[int]:
        raise AssertionError(f"the sink reads whole ranges: {partition} {key!r} {start} {stop}")

    async def read_key(self, partition: TopicPartition, key: bytes, start: int, stop: int) -> Sequence[Record]:
        raise AssertionError(f"the sink reads whole ranges: {partition} {key!r} {start} {stop}")


def _key(event: TokenEvent) -> bytes:
    return b"" if isinstance(event, Probed) else event.turn_id.encode()


@dataclass
class MemoryActive:
    """The ``ActiveTurns`` port that remembers which turns were ended."""

    ended: dict[str, str] = field(default_factory=dict)
    failures_left: int = 0

    async def active(self, conversation_ids: Sequence[str]) -> Mapping[str, Sequence[str]]:
        raise AssertionError(f"the sink does not ask: {conversation_ids}")

    async def begin(self, turns: Mapping[str, str]) -> None:
        raise AssertionError(f"the sink begins no turn: {turns}")

    async def end(self, turns: Mapping[str, str]) -> None:
        if self.failures_left:
            self.failures_left -= 1
            raise Retryable("the active turns were told to fail")
        self.ended.update(turns)


class Sink:
    """A sink with everything it touches."""

    def __init__(self, settings: CassandraSinkSettings | None = None, rows: MemoryRows | None = None) -> None:
        self.log = AnswerRecords()
        self.reader = RecordsReader(self.log)
        self.rows = rows or MemoryRows()
        self.contexts = MemoryContexts()
        self.active = MemoryActive()
        self.metrics = CountedMetrics()
        self.settings = settings or CassandraSinkSettings()
        self.read = 0
        self.sink = self._new()

    def _new(self) -> PersistAnswers:
        contexts: HotContexts = self.contexts
        return PersistAnswers(
            rows=self.rows,
            contexts=contexts,
            active=self.active,
            log=self.reader,
            producer=self.log,
            metrics=self.metrics,
            settings=self.settings,
            now_ms=lambda: self.log.now_ms + 5,
        )

    async def take(self, *events: TokenEvent) -> None:
        """Append the events and let the sink read to the end of what was there then."""
        self.log.add(*events)
        await self.read_on(len(self.log.records) - self.read)

    async def read_on(self, records: int) -> None:
        """Let the sink read the next records."""
        end = min(len(self.log.records), self.read + records)
        await self.sink.write(self.log.between(self.read, end))
        self.read = end

    def restart(self) -> None:
        self.read = self.safe()
        self.sink = self._new()

    def safe(self) -> int:
        return self.sink.safe_position(PARTITION, self.read)

    def statuses(self) -> list[tuple[Role, str, str]]:
        return [(row.role, row.content.text, row.status) for row in self.rows.messages()]
