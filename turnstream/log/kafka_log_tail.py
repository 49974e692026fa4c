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
    """Follows ``partitions`` from where they end while it starts, without a group.

    Use as ``async with KafkaLogTail(settings, partitions) as tail``: from then on ``position`` is valid.
    """

    def __init__(self, settings: KafkaSettings, partitions: Sequence[TopicPartition]) -> None:
        self._settings = settings
        self._partitions = tuple(partitions)
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
        for partition, found in fetched.items():
            self._positions[TopicPartition(partition.topic, partition.partition)] = found[-1].offset + 1
        return to_records(fetched.values())

    def position(self, partition: TopicPartition) -> int:
        """The offset after the last record of ``partition`` that ``poll`` returned. KeyError if not followed."""
        return self._positions[partition]

    async def _seek_to_end(self) -> None:
        # Asked for before assigning: aiokafka's position() loops for ever on a partition that does not exist.
        theirs = [AiokafkaPartition(*partition) for partition in self._partitions]
        ends = await self._kafka.end_offsets(theirs)
        self._kafka.assign(theirs)
        for partition, end in ends.items():
            self._kafka.seek(partition, end)
            self._positions[TopicPartition(partition.topic, partition.partition)] = end

    async def _close(self) -> None:
        try:
            async with asyncio.timeout(self._settings.close_seconds_max):
                await self._kafka.stop()
        except (KafkaError, TimeoutError, OSError) as error:
            log.warning("tail_close_incomplete", error=type(error).__name__)
