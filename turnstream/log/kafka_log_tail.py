"""The port ``LogTail`` on Kafka."""

import asyncio
from collections.abc import Sequence
from typing import Self

import structlog
from aiokafka.errors import KafkaError

from schemas.ports import Record, TopicPartition
from turnstream.log.kafka_failures import kafka_failures, startup_failures
from turnstream.log.kafka_records import records_of
from turnstream.log.kafka_wire import LATEST, KafkaWire
from turnstream.log.settings import KafkaSettings
from turnstream.log.wire.fetch import FetchLimits
from turnstream.log.wire.follower import Follower

log = structlog.get_logger()


class KafkaLogTail:
    """Follows ``partitions`` from where they end while it starts, and others later, without a group.

    Use as ``async with KafkaLogTail(settings, partitions) as tail``: from then on ``position`` is valid.
    """

    def __init__(self, settings: KafkaSettings, partitions: Sequence[TopicPartition]) -> None:
        self._settings = settings
        self._first = tuple(partitions)
        self._wire = KafkaWire(settings)
        limits = FetchLimits(
            settings.fetch_wait_ms_max, 1, settings.fetch_bytes_max, settings.fetch_partition_bytes_max
        )
        self._follower = Follower(self._wire.cluster, lambda: limits, self._wire.earliest)

    async def __aenter__(self) -> Self:
        """Fix the positions. Raises Retryable when that takes longer than ``start_seconds_max``."""
        started = False
        try:
            with startup_failures(f"follow the log at {self._settings.bootstrap_servers}"):
                async with asyncio.timeout(self._settings.start_seconds_max):
                    await self._wire.connect()
                    self._follower.follow(await self._wire.list_offsets(dict.fromkeys(self._first, LATEST)))
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
            found = await self._follower.next_entries(records_max, wait_s)
        return [record for partition, entries in found.items() for record in records_of(partition, entries)]

    def position(self, partition: TopicPartition) -> int:
        """The offset after the last record of ``partition`` that ``poll`` returned. KeyError if not followed."""
        return self._follower.position(partition)

    async def follow(self, partition: TopicPartition) -> None:
        """Follow ``partition`` too, from its present end. Raises Retryable after ``read_seconds_max``."""
        if partition in self._follower.partitions:
            return
        with kafka_failures(f"follow {partition.topic}/{partition.partition}"):
            async with asyncio.timeout(self._settings.read_seconds_max):
                self._follower.follow(await self._wire.list_offsets({partition: LATEST}))

    def unfollow(self, partition: TopicPartition) -> None:
        """Follow ``partition`` no more."""
        self._follower.unfollow((partition,))

    async def _close(self) -> None:
        try:
            async with asyncio.timeout(self._settings.close_seconds_max):
                await self._wire.close()
        except (KafkaError, TimeoutError, OSError) as error:
            log.warning("tail_close_incomplete", error=type(error).__name__)
