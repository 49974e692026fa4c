"""Taking the dump of a run: when its topics have settled, or never will."""

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from tests.chaos.dumped import Dump
from tests.chaos.log_rules import Told, fold_turns
from tests.support.topic_scan import LogRecord, read_topics
from turnstream.local_stack.stack import Stack
from turnstream.stores.cassandra import CassandraSettings, open_session

TABLES: Final = ("messages", "turns", "conversations")
SETTLE_SECONDS_MAX: Final = 120.0
SCAN_SECONDS_MAX: Final = 120.0


async def settle(stack: Stack) -> Sequence[LogRecord]:
    """Wait until every turn has ended, is stored and billed, or until it is clear that some never will be."""
    until_s = time.monotonic() + SETTLE_SECONDS_MAX
    while True:
        records = await read_topics(stack.endpoints.kafka or "", SCAN_SECONDS_MAX)
        if _settled(records) or time.monotonic() > until_s:
            return records
        await asyncio.sleep(1)


async def dump(stack: Stack) -> Dump:
    """The topics, once they have settled, and then the tables."""
    records = await settle(stack)
    host, port = stack.endpoints.cassandra or ("", 0)
    async with open_session(CassandraSettings(contact_points=(host,), port=port, answer_seconds_max=30)) as cql:
        tables = {
            table: [row._asdict() for row in await cql.execute(f"SELECT * FROM {table}")]  # noqa: S608 - our own names
            for table in TABLES
        }
    return Dump(records, tables)


def _settled(records: Sequence[LogRecord]) -> bool:
    turns = fold_turns(records)
    billed = {record.turn_id for record in records if record.topic == "usage.events.v1"}
    return all(_is_settled(turn) and (turn.generated == 0 or turn_id in billed) for turn_id, turn in turns.items())


def _is_settled(turn: Told) -> bool:
    return turn.terminal is not None and (not turn.stored or turn.persisted)
