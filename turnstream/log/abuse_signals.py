"""Hears abuse signals: first all that the compacted topic holds, then each new one."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Final

import structlog

from schemas import headers, serde
from schemas.abuse import AbuseSignalled
from schemas.errors import Malformed, Retryable
from schemas.ports import LogReader, LogTail, Metrics, Record, TopicPartition
from schemas.topics import ABUSE_SIGNALS

SIGNALS_PER_POLL_MAX: Final = 500
OFFSETS_PER_READ_MAX: Final = 2_000
POLL_WAIT_S_MAX: Final = 1.0
RETRY_S: Final = 1.0

_log: Final = structlog.get_logger(__name__)

Hear = Callable[[AbuseSignalled], None]


class AbuseSignalListener:
    """Passes every signal to ``hear``, in the order of its user's.

    ``tail`` follows ``partitions``, from where they ended when it was opened: what lies before is read back first.
    While the log cannot be read, what is known goes on to hold: this is protection, no promise.
    """

    def __init__(self, tail: LogTail, partitions: Sequence[TopicPartition], hear: Hear, metrics: Metrics) -> None:
        self._tail = tail
        self._partitions = tuple(partitions)
        self._hear = hear
        self._metrics = metrics

    async def read_back(self, reader: LogReader, seconds_max: float) -> None:
        """Hear what lies before the tail. What could not be read within ``seconds_max`` is not heard."""
        ends = {partition: self._tail.position(partition) for partition in self._partitions}
        try:
            async with asyncio.timeout(seconds_max):
                async for signal in read_signals(reader, ends):
                    self._hear(signal)
        except (Retryable, TimeoutError) as error:
            self._note_outage(error)

    async def run(self) -> None:
        """Listen until cancelled."""
        while True:
            try:
                records = await self._tail.poll(SIGNALS_PER_POLL_MAX, POLL_WAIT_S_MAX)
            except Retryable as error:
                self._note_outage(error)
                await asyncio.sleep(RETRY_S)
                continue
            for signal in _signals(records):
                self._hear(signal)

    def _note_outage(self, error: Exception) -> None:
        self._metrics.count("turnstream_dependency_failures_total", dependency="abuse_signals")
        _log.warning("abuse_signals_unreadable", error=type(error).__name__)


async def read_signals(reader: LogReader, ends: Mapping[TopicPartition, int]) -> AsyncIterator[AbuseSignalled]:
    """The signals that compaction left before ``ends``, per user in order. Raises Retryable."""
    starts = await reader.offsets_at(tuple(ends), 0)
    for partition, end in ends.items():
        for start in range(starts[partition], end, OFFSETS_PER_READ_MAX):
            records = await reader.read_range(partition, start, min(end, start + OFFSETS_PER_READ_MAX))
            for signal in _signals(records):
                yield signal


def signal_partitions(count: int) -> tuple[TopicPartition, ...]:
    """All partitions of the signals, of which there are ``count``."""
    return tuple(TopicPartition(ABUSE_SIGNALS.name, number) for number in range(count))


def _signals(records: Sequence[Record]) -> Iterator[AbuseSignalled]:
    """Those of live records that can be read."""
    for record in records:
        if headers.is_replayed(record.headers):
            continue
        try:
            yield serde.decode(ABUSE_SIGNALS, record.value)
        except Malformed:
            _log.warning("abuse_signal_unreadable", partition=record.partition, offset=record.offset)
