"""Looks a topic up before Faust does: Faust ignores a topic that does not exist, with one warning, for ever."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from schemas.errors import Fatal, Retryable

_LOOK_AGAIN_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Changelog:
    """How the changelogs of the tables are made."""

    partitions: int
    replication: int
    config: dict[str, str]


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


async def create_changelogs(
    bootstrap_servers: Sequence[str], names: Sequence[str], like: Changelog, deadline_s: float
) -> None:
    """Create the changelogs that do not exist yet, and wait until the broker knows them. Raises Retryable.

    Faust creates them too, but goes on before the broker tells of them; its agents then fail, over and over.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=list(bootstrap_servers))
    try:
        async with asyncio.timeout(deadline_s):
            try:
                await admin.start()
                wanted = [
                    NewTopic(name, like.partitions, like.replication, topic_configs=like.config) for name in names
                ]
                await admin.create_topics(wanted)
                await _until_known(admin, names)
            finally:
                await admin.close()
    except (KafkaError, OSError, TimeoutError) as error:
        raise Retryable(f"the changelogs could not be created ({type(error).__name__})") from error


async def _until_known(admin: AIOKafkaAdminClient, names: Sequence[str]) -> None:
    while True:
        if all(topic["partitions"] for topic in await admin.describe_topics(list(names))):
            return
        await asyncio.sleep(_LOOK_AGAIN_S)
