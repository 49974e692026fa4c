"""The turns that this edge serves, followed live: one tail of the log for all of them.

The tail delivers every record of the home partitions, other edges' turns included. Records are told apart
by their key alone; only those of open turns are decoded, once, whatever the number of their readers.
"""

import asyncio
from collections.abc import Callable, Sequence
from itertools import cycle
from typing import Final

import structlog

from consumers.sse.answer_buffer import AnswerBuffer
from consumers.sse.core import SseSettings, StreamBroken, draining
from consumers.sse.probe import ReadbackProbe
from schemas import serde
from schemas.errors import Fatal, Malformed, Retryable
from schemas.headers import TRACEPARENT, header
from schemas.ids import turn_partition
from schemas.ports import AnswerReader, LogTail, Producer, Record, TopicPartition
from schemas.stream_state import INITIAL, StreamState, advance
from schemas.topics import TOKENS

_LOG: Final = structlog.get_logger(__name__)


class _LiveTurn:
    """One turn: its state by the fence reducer, and who follows it."""

    __slots__ = ("buffers", "holds", "state", "traceparent")

    def __init__(self) -> None:
        self.state = INITIAL
        self.traceparent: str | None = None
        self.buffers: list[AnswerBuffer] = []
        self.holds = 0

    def take(self, record: Record) -> None:
        try:
            event = serde.decode_token(record.value)
        except Malformed:
            # It counts for no reader of the log; the sink's loop puts it among the dead letters.
            _LOG.warning("token_record_malformed", partition=record.partition, offset=record.offset)
            return
        state = advance(self.state, event)
        if state is self.state:
            return
        self.state = state
        self.traceparent = self.traceparent or header(record.headers, TRACEPARENT)
        for buffer in self.buffers:
            buffer.push(event, len(record.value))


class LiveTurns:
    """Opens views of turns on the home partitions; implements ``AnswerReaders``.

    ``tail`` follows exactly ``home_partitions`` of ``chat.tokens.v1``. Used on one event loop alone.
    """

    def __init__(
        self,
        tail: LogTail,
        producer: Producer,
        home_partitions: Sequence[int],
        *,
        edge_id: str,
        settings: SseSettings,
        entropy: Callable[[int], bytes],
    ) -> None:
        if not home_partitions:
            raise ValueError("an edge reads at least one home partition")
        self._tail = tail
        self._home = frozenset(home_partitions)
        self._next_home = cycle(home_partitions)
        self._settings = settings
        self._probe = ReadbackProbe(producer, home_partitions, edge_id, settings, entropy)
        self._turns: dict[bytes, _LiveTurn] = {}
        self._poll_failures = 0

    async def run(self) -> None:
        """Follow the log until cancelled. Raises Fatal when the log cannot be read any more."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow())
            tasks.create_task(self._wake_waiting())
            tasks.create_task(self._probe.run())

    def ready(self) -> bool:
        """Whether this process has lately read back what it wrote."""
        return self._probe.ready(asyncio.get_running_loop().time())

    def home_partition(self) -> int:
        """The home partitions in turn."""
        return next(self._next_home)

    def position(self, partition: int) -> int:
        """An offset before every record of a turn that is submitted after this call."""
        return self._tail.position(TopicPartition(TOKENS.name, partition))

    def open(self, turn_id: str) -> AnswerReader:
        """Follow a turn that has not been submitted yet. Raises ValueError for one whose home is elsewhere."""
        if turn_partition(turn_id) not in self._home:
            raise ValueError("the turn's partition is not read by this edge")
        key = turn_id.encode()
        turn = self._turns.setdefault(key, _LiveTurn())

        def close() -> None:
            if buffer in turn.buffers:
                turn.buffers.remove(buffer)
                self._forget_unused(key, turn)

        buffer = AnswerBuffer(self._settings.buffer_events_max, self._settings.buffer_bytes_max, close)
        turn.buffers.append(buffer)
        return buffer

    def state(self, turn_id: str) -> StreamState | None:
        """Where the turn stands, or None for a turn that is not followed here."""
        turn = self._turns.get(turn_id.encode())
        return None if turn is None else turn.state

    def traceparent(self, turn_id: str) -> str | None:
        """The trace context of a turn that is followed here, as its records carry it."""
        turn = self._turns.get(turn_id.encode())
        return None if turn is None else turn.traceparent

    def hold(self, turn_id: str) -> None:
        """Keep a followed turn's state when its readers leave, until ``release``."""
        turn = self._turns.get(turn_id.encode())
        if turn is not None:
            turn.holds += 1

    def release(self, turn_id: str) -> None:
        """Undo one ``hold``."""
        key = turn_id.encode()
        turn = self._turns.get(key)
        if turn is not None:
            turn.holds -= 1
            self._forget_unused(key, turn)

    def break_off(self) -> None:
        """Tell every reader that this process is draining; what they have not taken yet they still get."""
        for turn in self._turns.values():
            for buffer in turn.buffers:
                buffer.break_off(StreamBroken(draining()))

    async def _follow(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            for record in await self._poll():
                turn = self._turns.get(record.key or b"")
                if turn is not None:
                    turn.take(record)
                elif record.key == self._probe.key:
                    self._probe.take(record.value, loop.time())
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

    async def _wake_waiting(self) -> None:
        # One ticker for all readers: a timer per event and stream would cost more than the event.
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._settings.tick_seconds)
            now_s = loop.time()
            for turn in self._turns.values():
                for buffer in turn.buffers:
                    buffer.wake_if_due(now_s)

    def _forget_unused(self, key: bytes, turn: _LiveTurn) -> None:
        if not turn.buffers and turn.holds == 0:
            self._turns.pop(key, None)
