"""Waits until a stack has nothing left to do, and reads everything that it holds."""

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from schemas.topics import ALL_TOPICS, TOKENS, TURNS_SUBMITTED, USAGE_EVENTS
from tests.faults.dump import ConversationDump, Dump, LogEntry, MessageDump, TurnDump
from tests.support.topic_scan import read_topics
from turnstream.local_stack.stack import Stack
from turnstream.stores.cassandra import CassandraSession, CassandraSettings, open_session

SETTLE_SECONDS_MAX: Final = 60.0
SCAN_SECONDS_MAX: Final = 120.0
POLL_SECONDS: Final = 0.5
READ_SECONDS_MAX: Final = 60.0
_WANTED: Final = (TOKENS.name, TURNS_SUBMITTED.name, USAGE_EVENTS.name)
# Rollups are signals: no check looks at them.
_GROUPS: Final = tuple((topic.name, group) for topic in ALL_TOPICS for group in topic.groups if "windows" not in group)

Offsets = Mapping[TopicPartition, int]


async def settle(bootstrap_servers: str) -> bool:
    """Return when every group has read all that was written before; False when ``SETTLE_SECONDS_MAX`` passed."""
    until_s = time.monotonic() + SETTLE_SECONDS_MAX
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers, enable_auto_commit=False)
    await admin.start()
    await consumer.start()
    try:
        # The last stage reads what the ones before wrote, so its ends are taken when those have nothing to do.
        for topics in ({name for name, _ in _GROUPS} - {TOKENS.name}, {TOKENS.name}):
            while not await _caught_up(admin, consumer, topics, until_s):
                if time.monotonic() > until_s:
                    return False
        return True
    finally:
        await consumer.stop()
        await admin.close()


async def _caught_up(admin: Any, consumer: Any, topics: set[str], until_s: float) -> bool:
    """Whether all groups of ``topics`` reach the present ends before any of these (but probes) move."""
    ends = await _ends(admin, consumer, topics)
    while time.monotonic() < until_s:
        if all([await _reached(admin, group, name, ends) for name, group in _GROUPS if name in topics]):
            return topics == {TOKENS.name} or await _ends(admin, consumer, topics) == ends
        await asyncio.sleep(POLL_SECONDS)
    return False


async def _reached(admin: Any, group: str, topic: str, ends: Offsets) -> bool:
    try:
        committed = await admin.list_consumer_group_offsets(group)
    except KafkaError:
        return False
    return all(
        end == 0 or (place in committed and committed[place].offset >= end)
        for place, end in ends.items()
        if place.topic == topic
    )


async def _ends(admin: Any, consumer: Any, topics: set[str]) -> Offsets:
    found: Offsets = await consumer.end_offsets(await _places(admin, topics))
    return found


async def _places(admin: Any, topics: set[str]) -> list[TopicPartition]:
    described = await admin.describe_topics(sorted(topics))
    return [TopicPartition(topic["topic"], one["partition"]) for topic in described for one in topic["partitions"]]


async def read_dump(stack: Stack) -> Dump:
    """Everything that the checks look at. Raises TimeoutError after ``SCAN_SECONDS_MAX``, and the drivers' errors."""
    async with asyncio.timeout(SCAN_SECONDS_MAX):
        entries = await _entries(stack.endpoints.kafka or "")
        host, port = stack.endpoints.cassandra or ("", 0)
        settings = CassandraSettings(
            contact_points=(host,),
            port=port,
            answer_seconds_max=READ_SECONDS_MAX,
            request_seconds_max=READ_SECONDS_MAX,
        )
        async with open_session(settings) as cql:
            return Dump(entries, await _messages(cql), await _turns(cql), await _conversations(cql))


async def _entries(bootstrap_servers: str) -> tuple[LogEntry, ...]:
    records = await read_topics(bootstrap_servers, SCAN_SECONDS_MAX)
    return tuple(
        LogEntry(one.topic, one.partition, one.offset, one.timestamp_ms, json.loads(one.value))
        for one in records
        if one.topic in _WANTED
    )


async def _messages(cql: CassandraSession) -> tuple[MessageDump, ...]:
    rows = await cql.execute(
        "SELECT conversation_id, message_seq, turn_id, role, content, status FROM turnstream.messages"
    )
    return tuple(MessageDump(*row) for row in rows)


async def _turns(cql: CassandraSession) -> tuple[TurnDump, ...]:
    rows = await cql.execute("SELECT turn_id, conversation_id, answer_seq, finish_reason FROM turnstream.turns")
    return tuple(TurnDump(*row) for row in rows)


async def _conversations(cql: CassandraSession) -> tuple[ConversationDump, ...]:
    rows = await cql.execute("SELECT conversation_id, last_turn_id FROM turnstream.conversations")
    return tuple(ConversationDump(*row) for row in rows)
