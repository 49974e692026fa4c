"""Views of turns for the clients of this edge, on one tail of the log for all of them."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import cycle
from typing import Final, NamedTuple

import structlog

from consumers.sse.core import SseSettings, StreamBroken, draining
from consumers.sse.live_feed import LiveFeed
from consumers.sse.probe import ReadbackProbe
from consumers.sse.resume_place import state_before
from consumers.sse.turn_reader import TurnReader
from consumers.sse.visited_partitions import VisitedPartitions
from schemas import ids, serde
from schemas.cursors import Cursor
from schemas.errors import Fatal, Retryable
from schemas.ports import AnswerReader, LogReader, LogTail, Metrics, Outgoing, Producer, Record, TopicPartition
from schemas.stream_state import INITIAL, StreamState
from schemas.tokens import Attached, Cleared
from schemas.topics import TOKENS

_LOG: Final = structlog.get_logger(__name__)


class LiveTurns:
    """Opens views of turns; implements ``AnswerReaders``.

    ``tail`` follows ``home_partitions`` of ``chat.tokens.v1`` and, through this, others while readers need them.
    Used on one event loop alone.
    """

    def __init__(
        self,
        tail: LogTail,
        log: LogReader,
        producer: Producer,
        home_partitions: Sequence[int],
        *,
        edge_id: str,
        settings: SseSettings,
        metrics: Metrics,
        entropy: Callable[[int], bytes],
    ) -> None:
        if not home_partitions:
            raise ValueError("an edge reads at least one home partition")
        self.metrics: Final = metrics
        self.feed: Final = LiveFeed(edge_id)
        self._edge_id = edge_id
        self._tail = tail
        self._log = log
        self._producer = producer
        self._home = frozenset(home_partitions)
        self._next_home = cycle(home_partitions)
        self._visited = VisitedPartitions(tail, map(_tokens, home_partitions), settings)
        self._settings = settings
        self._probe = ReadbackProbe(producer, home_partitions, edge_id, settings, entropy)
        self._readers: set[TurnReader] = set()
        self._open: Counter[bytes] = Counter()
        self._poll_failures = 0

    async def run(self) -> None:
        """Follow the log until cancelled. Raises Fatal when the log cannot be read any more."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow())
            tasks.create_task(self._tick())
            tasks.create_task(self._probe.run())

    def ready(self) -> bool:
        """Whether this process has lately read back what it wrote."""
        return self._probe.ready(asyncio.get_running_loop().time())

    def home_partition(self) -> int:
        """The home partitions in turn."""
        return next(self._next_home)

    def position(self, partition: int) -> int:
        """An offset before every record of a turn that is submitted after this call."""
        return self._tail.position(_tokens(partition))

    def open(self, turn_id: str) -> AnswerReader:
        """Follow a turn that has not been submitted yet. Raises ValueError for one whose home is elsewhere."""
        number = ids.turn_partition(turn_id)
        if number not in self._home:
            raise ValueError("the turn's partition is not read by this edge")
        reader = self._reader(turn_id, _tokens(number), INITIAL, self.position(number))
        reader.go_live()
        return reader

    async def follow(
        self, turn_id: str, *, cleared: Cleared | None = None, cursor: Cursor | None = None
    ) -> AnswerReader:
        """Follow a turn that was submitted before, anywhere; see ``AnswerReaders``. Raises Retryable."""
        partition = _tokens(ids.turn_partition(turn_id))
        await self._visited.enter(partition)
        reader: TurnReader | None = None
        try:
            state, start = await self._place(turn_id, partition, cleared, cursor)
            reader = self._reader(turn_id, partition, state, start)
        finally:
            if reader is None:
                self._visited.leave(partition, asyncio.get_running_loop().time())
        return reader

    def state(self, turn_id: str) -> StreamState | None:
        """Where the turn stands, or None for a turn that is not followed live here."""
        turn = self.feed.find(turn_id)
        return None if turn is None else turn.state

    def traceparent(self, turn_id: str) -> str | None:
        """The trace context of a turn that is followed live here, as its records carry it."""
        turn = self.feed.find(turn_id)
        return None if turn is None else turn.traceparent

    def followed(self, turn_id: str) -> bool:
        """Whether a client follows the turn: here, or at another edge that said so last."""
        turn = self.feed.find(turn_id)
        return self._open[turn_id.encode()] > 0 or (turn is not None and turn.followed_elsewhere)

    def break_off(self, readers: Iterable[AnswerReader]) -> None:
        """Tell ``readers`` that this process is draining; what they hold they still get."""
        for reader in self._readers.intersection(readers):
            reader.break_off(StreamBroken(draining()))

    def break_off_all(self) -> None:
        """Tell every reader."""
        self.break_off(tuple(self._readers))

    async def announce(self, turn_id: str) -> None:
        """Say on the log that a client follows the turn here: the edge where it began need not wait for it."""
        event = Attached(turn_id=turn_id, edge_id=self._edge_id)
        headers = serde.event_headers(TOKENS, turn_id, self.traceparent(turn_id))
        partition = ids.turn_partition(turn_id)
        record = Outgoing(TOKENS.name, turn_id.encode(), serde.encode(event), headers, partition)
        try:
            await self._producer.append([record])
        except Retryable as error:
            # The other edge may then cancel a stateless turn that nobody else seems to follow.
            _LOG.warning("attachment_not_announced", turn_id=turn_id, error=type(error).__name__)

    def _reader(self, turn_id: str, partition: TopicPartition, state: StreamState, position: int) -> TurnReader:
        source = _Source(self, self._log, turn_id, turn_id.encode(), partition)
        reader = TurnReader(source, self._settings, state, position)
        self._readers.add(reader)
        self._open[source.key] += 1
        return reader

    def forget(self, key: bytes, partition: TopicPartition, reader: TurnReader) -> None:
        """The reader is closed; may be told again."""
        if reader not in self._readers:
            return
        self._readers.remove(reader)
        self._open[key] -= 1
        if not self._open[key]:
            del self._open[key]
        self.feed.detach(key, reader)
        self._visited.leave(partition, asyncio.get_running_loop().time())

    async def _place(
        self, turn_id: str, partition: TopicPartition, cleared: Cleared | None, cursor: Cursor | None
    ) -> tuple[StreamState, int]:
        """Where to read from, and the turn's state there."""
        if cleared is not None and cursor is not None and cursor.offset < self._tail.position(partition):
            for record in await self._log.read_range(partition, cursor.offset, cursor.offset + 1):
                state = state_before(record, cleared, cursor)
                if state is not None:
                    return state, cursor.offset
        since_ms = max(0, ids.turn_time_ms(turn_id) - self._settings.clock_skew_ms_max)
        return INITIAL, (await self._log.offsets_at((partition,), since_ms))[partition]

    async def _follow(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            for record in await self._poll():
                if not self.feed.take(record) and record.key == self._probe.key:
                    self._probe.take(record.value, loop.time())
            self.feed.deliver()
            # A tail with a backlog may answer without ever suspending: let the readers run in between.
            await asyncio.sleep(0)

    async def _poll(self) -> Sequence[Record]:
        try:
            records = await self._tail.poll(self._settings.poll_records_max, self._settings.poll_wait_seconds)
        except Retryable as error:
            self._poll_failures += 1
            _LOG.warning("tail_not_read", failures=self._poll_failures, error=type(error).__name__)
            if self._poll_failures >= self._settings.poll_failures_max:
                raise Fatal("the tokens topic cannot be read") from error
            await asyncio.sleep(self._settings.poll_retry_seconds)
            return ()
        self._poll_failures = 0
        return records

    async def _tick(self) -> None:
        # One ticker for all readers: a timer per event and stream would cost more than the event.
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._settings.tick_seconds)
            now_s = loop.time()
            for reader in self._readers:
                reader.wake_if_due(now_s)
            self._visited.expire(now_s)


class _Source(NamedTuple):
    """Implements ``TurnSource`` for one reader."""

    turns: LiveTurns
    log: LogReader
    turn_id: str
    key: bytes
    partition: TopicPartition

    def position(self) -> int:
        return self.turns.position(self.partition.partition)

    async def read(self, start: int, stop: int) -> Sequence[Record]:
        return await self.log.read_range(self.partition, start, stop)

    def attach(self, reader: TurnReader, state: StreamState) -> None:
        self.turns.feed.attach(self.key, reader, state)

    async def joined(self) -> None:
        await self.turns.announce(self.turn_id)

    def fell_behind(self, reader: TurnReader) -> None:
        self.turns.feed.detach(self.key, reader)
        self.turns.metrics.count("turnstream_streams_fell_behind_total")

    def leave(self, reader: TurnReader) -> None:
        self.turns.forget(self.key, self.partition, reader)


@cache
def _tokens(partition: int) -> TopicPartition:
    return TopicPartition(TOKENS.name, partition)
