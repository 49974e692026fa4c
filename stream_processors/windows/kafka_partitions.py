"""Looks a topic up before Faust does: Faust ignores a topic that does not exist, with one warning, for ever."""

import asyncio
from collections.abc import Sequence

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from schemas.errors import Fatal, Retryable


async def partition_counts(
    bootstrap_servers: Sequence[str], topics: Sequence[str], deadline_s: float
) -> dict[str, int]:
    """How many partitions each topic has. Raises Fatal when one does not exist, Retryable when nobody answers."""
    admin = AIOKafkaAdminClient(bootstrap_servers=list(bootstrap_servers))
    try:
        async with asyncio.timeout(deadline_s):
            try:
                await admin.start()
                found = await admin.describe_topics(list(topics))
            finally:
                await admin.close()
    except (KafkaError, OSError, TimeoutError) as error:
        raise Retryable(f"Kafka did not answer ({type(error).__name__})") from error
    counts = {topic["topic"]: len(topic["partitions"]) for topic in found if topic["error_code"] == 0}
    missing = [topic for topic in topics if not counts.get(topic)]
    if missing:
        raise Fatal(f"topics do not exist: {', '.join(missing)}; run `turnstream bootstrap` first")
    return counts
