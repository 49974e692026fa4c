"""Every record of a broker, read by a plain client that shares no code with what is tested."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

SCAN_SECONDS_MAX: Final = 15.0
_POLL_MS: Final = 200
_BATCH_RECORDS_MAX: Final = 5_000


@dataclass(frozen=True)
class LogRecord:
    """A record as any Kafka client sees it."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes
    headers: Mapping[str, str]
    timestamp_ms: int = 0

    @property
    def turn_id(self) -> str | None:
        """The turn that the record says it belongs to."""
        return self.headers.get("turn")

    @property
    def whole(self) -> bytes:
        """Key, headers and value in one, for a search."""
        headers = "\n".join(f"{name}={value}" for name, value in self.headers.items()).encode()
        return b"\n".join((self.key or b"", headers, self.value))


async def read_topics(bootstrap_servers: str, seconds_max: float = SCAN_SECONDS_MAX) -> list[LogRecord]:
    """All records of all topics but Kafka's own, up to the ends at the time of the call, in order per partition."""
    async with asyncio.timeout(seconds_max):
        partitions = await _partitions(bootstrap_servers)
        consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers, enable_auto_commit=False, fetch_max_wait_ms=50)
        await consumer.start()
        try:
            return await _read_all(consumer, partitions)
        finally:
            await consumer.stop()


async def _partitions(bootstrap_servers: str) -> list[TopicPartition]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        topics = await admin.describe_topics()
    finally:
        await admin.close()
    return [
        TopicPartition(topic["topic"], partition["partition"])
        for topic in topics
        if not topic["is_internal"]
        for partition in topic["partitions"]
    ]


async def _read_all(consumer: Any, partitions: list[TopicPartition]) -> list[LogRecord]:
    # Assigned first: a consumer asks for the leaders of its own partitions at once, for those of others in its time.
    consumer.assign(partitions)
    await consumer.seek_to_beginning()
    ends = await consumer.end_offsets(partitions)
    found: list[LogRecord] = []
    # Positions, not counts: compaction leaves gaps.
    while [one for one in partitions if await consumer.position(one) < ends[one]]:
        batches = await consumer.getmany(timeout_ms=_POLL_MS, max_records=_BATCH_RECORDS_MAX)
        found += [_record(raw) for batch in batches.values() for raw in batch]
    return found


def _record(raw: Any) -> LogRecord:
    headers = {name: value.decode("utf-8", "replace") for name, value in raw.headers}
    return LogRecord(raw.topic, raw.partition, raw.offset, raw.key, raw.value or b"", headers, raw.timestamp)
