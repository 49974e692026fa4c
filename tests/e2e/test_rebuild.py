"""The judged case of ``turnstream replay rebuild``: 500 conversations wiped, and equal afterwards."""

import asyncio
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from schemas.events import NO_PARENT
from schemas.ids import message_seq, new_turn_id
from schemas.ports import Outgoing, Owner
from schemas.serde import encode, event_headers
from schemas.tokens import Cleared, TokenEvent
from schemas.topics import TOKENS
from stream_processors.auth.cassandra_conversations import CassandraConversations
from stream_processors.bounded_gather import execute_each
from stream_processors.prompt.cassandra_history import CassandraHistory
from tests.support.answer_records import answer
from tests.support.full_stack import FullStack, command_environment, eventually
from turnstream.log.kafka_producer import KafkaProducer
from turnstream.log.settings import KafkaSettings
from turnstream.stores.cassandra import CassandraSession, CassandraSettings, open_session

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

CONVERSATIONS: Final = 500
# How many of them have a second turn, in another partition than the first.
CONTINUED: Final = 100
TURNS: Final = CONVERSATIONS + CONTINUED
PARTITIONS: Final = 16
IN_FLIGHT_MAX: Final = 32
STORED_SECONDS_MAX: Final = 60.0
REBUILD_SECONDS_MAX: Final = 180.0
REBUILD: Final = (sys.executable, "-m", "turnstream", "replay", "rebuild", "--execute")
LISTED: Final = "SELECT * FROM turns_by_user WHERE tenant_id = ? AND user_id = ? AND api = 'chat_completions'"
TABLES: Final = ("messages", "turns", "turns_by_user")


@dataclass
class Conversations:
    """Conversations of a tenant of their own, whose answers lie on the log as inference writes them."""

    cql: CassandraSession
    tenant: str
    conversations: list[str] = field(default_factory=list)
    turns: list[str] = field(default_factory=list)

    def records(self, began_ms: int) -> list[Outgoing]:
        """Every record, turn after turn; a conversation's turns lie in partitions of their own."""
        found: list[Outgoing] = []
        for turn, conversations in enumerate((self.conversations, self.conversations[:CONTINUED])):
            for number, conversation in enumerate(conversations):
                at_ms = began_ms + turn * 10_000 + number
                partition = (number + 3 * turn) % PARTITIONS
                turn_id = new_turn_id(at_ms, partition, secrets.token_bytes(8))
                self.turns.append(turn_id)
                changes = {
                    "turn_id": turn_id,
                    "tenant_id": self.tenant,
                    "submitted_at_ms": at_ms,
                    "message_seq": message_seq(0, turn + 1, 0),
                    "parent_seq": NO_PARENT if turn == 0 else message_seq(0, turn, 1),
                }
                events = answer(number, "Hel", f"lo {number}", conversation=conversation)
                found.extend(_outgoing(event, changes, partition) for event in events)
        return found

    async def dump(self) -> list[Any]:
        """Every column of every row."""
        key = [(self.tenant, "user")]
        return [
            *await self.each("SELECT * FROM messages WHERE conversation_id = ?", _ones(self.conversations)),
            *await self.each("SELECT * FROM turns WHERE turn_id = ?", _ones(self.turns)),
            *await self.each("SELECT * FROM conversations WHERE tenant_id = ? AND user_id = ?", key),
            *await self.each(LISTED, key),
        ]

    async def history(self) -> Any:
        """What the prompt stage would read."""
        return await CassandraHistory(self.cql, IN_FLIGHT_MAX).recent(self.conversations, 64)

    async def delete_all(self) -> None:
        """As an operator by hand, under the time of now."""
        key = [(self.tenant, "user")]
        await self.each("DELETE FROM messages WHERE conversation_id = ?", _ones(self.conversations))
        await self.each("DELETE FROM turns WHERE turn_id = ?", _ones(self.turns))
        await self.each("DELETE FROM conversations WHERE tenant_id = ? AND user_id = ?", key)
        await self.each(LISTED.replace("SELECT *", "DELETE"), key)

    async def each(self, query: str, values: Sequence[Sequence[object]]) -> list[Any]:
        """The rows of one query for all of ``values``."""
        return [row for rows in await execute_each(self.cql, query, values, IN_FLIGHT_MAX) for row in rows]


def _ones(values: Sequence[str]) -> list[tuple[str]]:
    return [(value,) for value in values]


def _outgoing(event: TokenEvent, changes: dict[str, object], partition: int) -> Outgoing:
    mine = changes if isinstance(event, Cleared) else {"turn_id": changes["turn_id"]}
    turn_id = str(changes["turn_id"])
    value = encode(event.model_copy(update=mine))
    return Outgoing(TOKENS.name, turn_id.encode(), value, event_headers(TOKENS, turn_id), partition)


@pytest.fixture(scope="module")
def tenant() -> str:
    return f"rebuilt-{secrets.token_hex(4)}"


@pytest.fixture
async def stored(turnstream: FullStack, tenant: str) -> AsyncIterator[Conversations]:
    host, port = turnstream.stack.endpoints.cassandra or ("", 0)
    settings = CassandraSettings(contact_points=(host,), port=port, answer_seconds_max=20, request_seconds_max=8)
    async with open_session(settings) as cql:
        made = Conversations(cql, tenant, [f"conv_{secrets.token_hex(8)}" for _ in range(CONVERSATIONS)])
        began_ms = time.time_ns() // 1_000_000 - 30_000
        owners = dict.fromkeys(made.conversations, Owner(tenant, "user"))
        await CassandraConversations(cql, IN_FLIGHT_MAX).claim(owners, began_ms)
        records = made.records(began_ms)
        async with KafkaProducer(KafkaSettings(bootstrap_servers=turnstream.stack.endpoints.kafka or "")) as producer:
            for first in range(0, len(records), 500):
                await producer.append(records[first : first + 500])

        async def all_listed() -> bool:
            return len(await cql.execute(LISTED, (tenant, "user"))) == TURNS

        await eventually(all_listed, STORED_SECONDS_MAX)
        yield made


def rebuild(turnstream: FullStack, folder: Path, *arguments: str) -> Any:
    done = subprocess.run(  # noqa: S603 - our own command line
        (*REBUILD, "--json", *arguments),
        env=environment(turnstream, folder),
        capture_output=True,
        timeout=REBUILD_SECONDS_MAX,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def environment(turnstream: FullStack, folder: Path) -> dict[str, str]:
    return {**command_environment(turnstream.home), "TURNSTREAM_REPLAY__FOLDER": str(folder)}


async def test_wiped_conversations_come_back_from_the_log_as_they_were(
    turnstream: FullStack, stored: Conversations, tmp_path: Path
) -> None:
    before, history, persisted = await stored.dump(), await stored.history(), await persisted_count(turnstream, stored)
    assert len(before) == TURNS * 4 + CONVERSATIONS
    # By a deletion, which is newer than the log; and the rebuild is cut off by what nothing can catch.
    await stored.delete_all()
    assert await stored.dump() == []
    run_id = await asyncio.to_thread(killed_in_the_middle, turnstream, tmp_path, "--tenant", stored.tenant)
    assert 0 < len(await stored.dump()) < len(before)
    told = await asyncio.to_thread(rebuild, turnstream, tmp_path, "--resume", run_id)
    assert 0 < told["counts"]["turns"] < TURNS
    assert told["counts"]["rows_above_a_deletion"] > told["counts"]["rows_not_restored"] == 0
    assert await stored.dump() == before
    assert await stored.history() == history
    # Without a trace, of everybody.
    for table in TABLES:
        await stored.cql.change_schema(f"TRUNCATE {CassandraSettings().keyspace}.{table}")
    told = await asyncio.to_thread(rebuild, turnstream, tmp_path)
    assert told["counts"]["turns"] >= TURNS
    assert await stored.dump() == before
    assert await persisted_count(turnstream, stored) == persisted


def killed_in_the_middle(turnstream: FullStack, folder: Path, *arguments: str) -> str:
    """Begin a slow rebuild and kill it once some is done; its run id."""
    argv, environ = (*REBUILD, "--rate", "800", *arguments), environment(turnstream, folder)
    before = set(folder.glob("*.positions.json"))

    def selected() -> tuple[int, str]:
        for file in set(folder.glob("*.positions.json")) - before:
            return json.loads(file.read_bytes())["selected"], file.name.partition(".")[0]
        return 0, ""

    with subprocess.Popen(argv, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:  # noqa: S603
        _until(lambda: selected()[0] >= TURNS)
        os.kill(process.pid, signal.SIGKILL)
    return selected()[1]


def _until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + STORED_SECONDS_MAX
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


async def persisted_count(turnstream: FullStack, stored: Conversations) -> int:
    """How often the sink has said that one of the turns is stored: a rebuild says nothing."""
    ours = frozenset(stored.turns)
    said = [record for record in await turnstream.records() if record.turn_id in ours]
    return sum(b'"type":"persisted"' in record.value for record in said)
