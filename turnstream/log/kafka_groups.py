"""What the broker knows of consumer groups: their members and what they committed."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka.errors import NoError, for_code

from schemas.ports import TopicPartition
from turnstream.log.kafka_failures import kafka_failures
from turnstream.log.kafka_topics import open_admin
from turnstream.log.settings import KafkaSettings

# A partition without a commit.
_NONE = -1


@dataclass(frozen=True, slots=True)
class GroupDescription:
    """A group as the broker has it. ``state`` is its word; a group that never was is ``Dead`` and has no members."""

    group: str
    state: str
    members: int
    committed: Mapping[TopicPartition, int]


async def describe_groups(settings: KafkaSettings, groups: Sequence[str]) -> tuple[GroupDescription, ...]:
    """The groups in the given order. Raises Retryable after ``admin_seconds_max``."""
    async with open_admin(settings) as admin:
        with kafka_failures("describe the consumer groups"):
            async with asyncio.timeout(settings.admin_seconds_max):
                return tuple([await _describe(admin, group) for group in groups])


async def _describe(admin: Any, group: str) -> GroupDescription:
    # One group a request: aiokafka reads the answer of version 3 as version 2, and loses its place after a group.
    (response,) = await admin.describe_consumer_groups([group])
    (described,) = response.groups
    if for_code(described[0]) is not NoError:
        return GroupDescription(group, "unknown", 0, {})
    offsets = await admin.list_consumer_group_offsets(group)
    committed = {
        TopicPartition(theirs.topic, theirs.partition): stored.offset
        for theirs, stored in offsets.items()
        if stored.offset != _NONE
    }
    return GroupDescription(group, described[2], len(described[5]), committed)
