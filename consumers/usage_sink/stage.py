"""The usage sink: every usage event becomes a row of a Parquet file, before its offset is committed.

Rows wait in memory for their file; the committed position stays before the first of them, so that a crash loses none.
What was published and not committed is found again by its name (``core``), so that it repeats none.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import structlog

from consumers.usage_sink.core import STAGE, Line, OpenFile, UsageSinkSettings
from consumers.usage_sink.fsspec_lake import FsspecLake
from schemas.errors import Fatal, Retryable
from schemas.events import UsageRecorded
from schemas.ports import Metrics, Received, TopicPartition

_log: Final = structlog.get_logger(__name__)


class UsageLake(Protocol):
    """Where the files are."""

    async def publish(self, partition: TopicPartition, lines: Sequence[Line]) -> int:
        """Write what is not there yet of ``lines``, in log order; returns the rows written. Raises Retryable."""
        ...


class WriteUsage:
    """The ``LogSink`` of the usage topic. ``monotonic_s`` gives seconds."""

    def __init__(
        self, lake: UsageLake, settings: UsageSinkSettings, metrics: Metrics, monotonic_s: Callable[[], float]
    ) -> None:
        self._lake = lake
        self._settings = settings
        self._metrics = metrics
        self._monotonic_s = monotonic_s
        self._open: dict[TopicPartition, OpenFile] = {}
        self._publishing = asyncio.Lock()

    async def write(self, batch: Sequence[Received[UsageRecorded]]) -> None:
        """Take the rows of ``batch``; publish the files that are full by it. Raises Retryable."""
        # Without an await in between: rows of a partition that is taken away meanwhile would stay.
        self._take(batch)
        await self.publish_due()

    async def publish_due(self) -> None:
        """Publish every file that is full or old enough. Raises Retryable."""
        async with self._publishing:
            for partition, file in tuple(self._open.items()):
                if file.due(self._monotonic_s(), self._settings):
                    await self._publish(partition, file)

    def safe_position(self, partition: TopicPartition, position: int) -> int:
        """The first offset that is not in a file yet, at most ``position``."""
        file = self._open.get(partition)
        return position if file is None or not file.lines else min(position, file.lines[0].offset)

    def forget(self, partitions: frozenset[TopicPartition]) -> None:
        """Drop the rows of partitions that were taken away: their next owner reads them again."""
        for partition in partitions:
            self._open.pop(partition, None)

    def _take(self, batch: Sequence[Received[UsageRecorded]]) -> None:
        now_s = self._monotonic_s()
        for received in batch:
            record = received.record
            self._open.setdefault(record.source, OpenFile()).add(record.offset, received.event, now_s)

    async def _publish(self, partition: TopicPartition, file: OpenFile) -> None:
        lines = tuple(file.lines)
        written = await self._lake.publish(partition, lines)
        if self._open.get(partition) is file:
            file.drop(len(lines), self._monotonic_s())
        self._metrics.count("turnstream_usage_rows_total", written, outcome="written")
        self._metrics.count("turnstream_usage_rows_total", len(lines) - written, outcome="repeated")
        _log.info(
            "usage_published",
            stage=STAGE,
            partition=partition.partition,
            first=lines[0].offset,
            last=lines[-1].offset,
            rows=written,
        )


async def run_rolls(sink: WriteUsage, settings: UsageSinkSettings, metrics: Metrics, stop: asyncio.Event) -> None:
    """Publish files that are old enough, also when no more usage comes, until ``stop``."""
    while not stop.is_set():
        try:
            async with asyncio.timeout(settings.roll_check_seconds):
                await stop.wait()
        except TimeoutError:
            await _roll(sink, metrics)


async def _roll(sink: WriteUsage, metrics: Metrics) -> None:
    try:
        await sink.publish_due()
    except Retryable as error:
        # The rows are on the log; what is full presses harder, in the loop, which gives up after a while.
        metrics.count("turnstream_dependency_failures_total", dependency="usage_files")
        _log.warning("usage_not_published", stage=STAGE, error=str(error))


def open_lake(settings: UsageSinkSettings) -> FsspecLake:
    """The lake of the settings. Raises Fatal when there is none, or nothing installed here can open it."""
    if settings.url is None:
        raise Fatal("TURNSTREAM_USAGE_SINK__URL is not set: where should the usage files go?")
    return FsspecLake(settings.url, settings.options)
