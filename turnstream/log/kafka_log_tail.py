"""The port ``LogTail`` on Kafka."""

import asyncio
from collections.abc import Sequence
from typing import Any, Self

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition as AiokafkaPartition

from schemas.ports import Record, TopicPartition
from turnstream.log.kafka_failures import kafka_failures, startup_failures
from turnstream.log.kafka_records import to_records
from turnstream.log.settings import KafkaSettings

log = structlog.get_logger()


class KafkaLogTail:
    """Follows ``partitions`` from where they end while it starts, and others later, without a group.

    Use as ``async with KafkaLogTail(settings, partitions) as tail``: from then on ``position`` is valid.
    """

    def __init__(self, settings: KafkaSettings, partitions: Sequence[TopicPartition]) -> None:
        self._settings = settings
        self._first = tuple(partitions)
        self._positions: dict[TopicPartition, int] = {}
        self._kafka: Any = AIOKafkaConsumer(
            bootstrap_servers=settings.bootstrap_servers,
            client_id=settings.client_id,
            group_id=None,
            enable_auto_commit=False,
            # Only after retention overtook a tail that stood still: read on with the oldest that is left.
            auto_offset_reset="earliest",
            fetch_min_bytes=1,
            fetch_max_wait_ms=settings.fetch_wait_ms_max,
            fetch_max_bytes=settings.fetch_bytes_max,
            max_partition_fetch_bytes=settings.fetch_partition_bytes_max,
            request_timeout_ms=int(settings.start_seconds_max * 1000),
        )

    async def __aenter__(self) -> Self:
        """Fix the positions. Raises Retryable when that takes longer than ``start_seconds_max``."""
        started = False
        try:
            with startup_failures("start the tail"):
                async with asyncio.timeout(self._settings.start_seconds_max):
                    await self._kafka.start()
                    await self._seek_to_end()
            started = True
        finally:
            if not started:
                await self._close()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Disconnect."""
        await self._close()

    async def poll(self, records_max: int, wait_s: float) -> Sequence[Record]:
        """Up to ``records_max`` next records, in order per partition; empty after ``wait_s`` seconds without any.

        Raises Retryable when the broker fails.
        """
        with kafka_failures("poll the tail"):
            fetched = await self._kafka.getmany(timeout_ms=wait_s * 1000, max_records=records_max)
        followed = {TopicPartition(one.topic, one.partition): found for one, found in fetched.items()}
        # What came of a partition that was given up meanwhile must not be followed again by accident.
        wanted = {partition: found for partition, found in followed.items() if partition in self._positions}
        self._positions.update({partition: found[-1].offset + 1 for partition, found in wanted.items()})
        return to_records(wanted.values())

    def position(self, partition: TopicPartition) -> int:
        """The offset after the last record of ``partition`` that ``poll`` returned. KeyError if not followed."""
        return self._positions[partition]

    async def follow(self, partition: TopicPartition) -> None:
        """Follow ``partition`` too, from its present end. Raises Retryable after ``read_seconds_max``."""
        if partition in self._positions:
            return
        with kafka_failures(f"follow {partition.topic}/{partition.partition}"):
            async with asyncio.timeout(self._settings.read_seconds_max):
                self._positions.update(await self._ends((partition,)))
        self._assign()

    def unfollow(self, partition: TopicPartition) -> None:
        """Follow ``partition`` no more."""
        if self._positions.pop(partition, None) is not None:
            self._assign()

    async def _seek_to_end(self) -> None:
        # Asked for before assigning: aiokafka's position() loops for ever on a partition that does not exist.
        self._positions.update(await self._ends(self._first))
        self._assign()

    async def _ends(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        ends = await self._kafka.end_offsets([AiokafkaPartition(*partition) for partition in partitions])
        return {TopicPartition(found.topic, found.partition): end for found, end in ends.items()}

    def _assign(self) -> None:
        # An assignment forgets what was fetched and where it stood: each partition goes on behind what poll returned.
        theirs = {AiokafkaPartition(*partition): position for partition, position in self._positions.items()}
        self._kafka.assign(list(theirs))
        for partition, position in theirs.items():
            self._kafka.seek(partition, position)

    async def _close(self) -> None:
        try:
            async with asyncio.timeout(self._settings.close_seconds_max):
                await self._kafka.stop()
        except (KafkaError, TimeoutError, OSError) as error:
            log.warning("tail_close_incomplete", error=type(error).__name__)
