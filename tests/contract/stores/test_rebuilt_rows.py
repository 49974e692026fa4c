"""What a rebuild writes, on a real Cassandra, beside what the sink wrote and what users did."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from consumers.cassandra_sink.cassandra_restore import CassandraRestore
from consumers.cassandra_sink.cassandra_rows import CassandraRows
from consumers.cassandra_sink.core import CassandraSinkSettings
from consumers.cassandra_sink.rebuild import RebuildAnswers
from consumers.cassandra_sink.stage import PersistAnswers
from producers.conversations.ports import ConversationChange
from schemas.events import NO_PARENT
from schemas.headers import REPLAY
from schemas.ports import Owner
from schemas.tokens import Cleared, TokenEvent
from stream_processors.auth.cassandra_conversations import CassandraConversations
from tests.support.answer_records import (
    PARTITION,
    START_MS,
    AnswerRecords,
    CountedMetrics,
    answer,
    cleared,
    delta,
    fence,
    finished,
    turn_id_of,
)
from tests.support.memory_stores import MemoryContexts
from tests.unit.sink.sink_world import MemoryActive, RecordsReader
from turnstream.clocks import now_ms
from turnstream.stores.cassandra import CassandraSession, CassandraSettings
from turnstream.stores.conversations import CassandraConversationRecords
from turnstream.stores.message_tree import CassandraMessageTree
from turnstream.stores.stored_answers import CassandraStoredAnswers

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

OWNER = Owner("tenant", "user")


@dataclass
class World:
    """One conversation, its records on the log, and the stores."""

    cql: CassandraSession
    conversation: str = field(default_factory=lambda: f"conv_{secrets.token_hex(8)}")
    log: AnswerRecords = field(default_factory=AnswerRecords)
    contexts: MemoryContexts = field(default_factory=MemoryContexts)
    first: int = field(default_factory=lambda: secrets.randbelow(1 << 33))

    def turn(self, number: int, *texts: str, opens: bool = False) -> list[TokenEvent]:
        events = answer(self.first + number, *texts, conversation=self.conversation)
        return [_opening(event) if opens and isinstance(event, Cleared) else event for event in events]

    async def own(self) -> None:
        await CassandraConversations(self.cql, 8).claim({self.conversation: OWNER}, START_MS)

    async def store(self) -> None:
        """As the live sink does."""
        sink = PersistAnswers(
            rows=CassandraRows(self.cql),
            contexts=MemoryContexts(),
            active=MemoryActive(),
            log=RecordsReader(self.log),
            producer=self.log,
            metrics=CountedMetrics(),
            settings=CassandraSinkSettings(),
            now_ms=now_ms,
        )
        await sink.write(self.log.between(0, len(self.log.records)))

    async def rebuild(self, start: int = 0, stop: int | None = None, *, restore_owners: bool = False) -> dict[str, int]:
        stop = len(self.log.records) if stop is None else stop
        reader = RecordsReader(self.log)
        answers = RebuildAnswers(
            store=CassandraRestore(self.cql),
            contexts=self.contexts,
            log=reader,
            settings=CassandraSinkSettings(),
            stops={PARTITION: stop},
            now_ms=now_ms,
            restore_owners=restore_owners,
        )
        appended = len(self.log.appended)
        await answers.act(await reader.read_range(PARTITION, start, stop))
        assert len(self.log.appended) == appended
        return dict(answers.counts())

    async def dump(self) -> list[Any]:
        """Every column of every row of the conversation and its turns."""
        turns = [event.event.turn_id for event in self.log.records if isinstance(event.event, Cleared)]
        key = (OWNER.tenant_id, OWNER.user_id)
        rows = list(await self.cql.execute("SELECT * FROM messages WHERE conversation_id = ?", (self.conversation,)))
        query = "SELECT * FROM conversations WHERE tenant_id = ? AND user_id = ? AND conversation_id = ?"
        rows += await self.cql.execute(query, (*key, self.conversation))
        for turn_id in dict.fromkeys(turns):
            rows += await self.cql.execute("SELECT * FROM turns WHERE turn_id = ?", (turn_id,))
            query = "SELECT * FROM turns_by_user WHERE tenant_id = ? AND user_id = ? AND api = ? AND turn_id = ?"
            rows += await self.cql.execute(query, (*key, "chat_completions", turn_id))
        return rows

    async def wipe(self, *, all_tables: bool = False) -> None:
        """Delete as an operator might who has no idea of times: by now."""
        await self.cql.execute("DELETE FROM messages WHERE conversation_id = ?", (self.conversation,))
        if all_tables:
            key = (OWNER.tenant_id, OWNER.user_id, self.conversation)
            query = "DELETE FROM conversations WHERE tenant_id = ? AND user_id = ? AND conversation_id = ?"
            await self.cql.execute(query, key)
            for number in range(8):
                turn_id = turn_id_of(self.first + number)
                await self.cql.execute("DELETE FROM turns WHERE turn_id = ?", (turn_id,))
                query = "DELETE FROM turns_by_user WHERE tenant_id = ? AND user_id = ? AND api = ? AND turn_id = ?"
                await self.cql.execute(query, (*key[:2], "chat_completions", turn_id))


def _opening(event: Cleared) -> Cleared:
    return event.model_copy(update={"parent_seq": NO_PARENT})


@pytest.fixture
async def world(cassandra: CassandraSession) -> World:
    world = World(cassandra)
    await world.own()
    return world


async def stored(world: World, turns: int = 3) -> Sequence[Any]:
    for number in range(turns):
        world.log.add(*world.turn(number, "a", f"b{number}", opens=number == 0))
    await world.store()
    return await world.dump()


async def test_what_is_there_stays_as_it_is(world: World) -> None:
    before = await stored(world)
    counts = await world.rebuild()
    assert await world.dump() == before
    assert (counts["turns"], counts["rows_above_a_deletion"], counts["rows_not_restored"]) == (3, 0, 0)
    assert counts["conversations"] == 1


async def test_what_was_truncated_is_written_as_the_sink_writes_it(
    world: World, cassandra_settings: CassandraSettings
) -> None:
    before = await stored(world)
    for table in ("messages", "turns", "turns_by_user", "conversations"):
        await world.cql.change_schema(f"TRUNCATE {cassandra_settings.keyspace}.{table}")
    counts = await world.rebuild()
    assert await world.dump() == before
    assert counts["rows_above_a_deletion"] == 0


@pytest.mark.parametrize("all_tables", [False, True])
async def test_what_was_deleted_by_hand_comes_back_whatever_the_time_of_the_deletion(
    world: World, *, all_tables: bool
) -> None:
    before = await stored(world)
    await world.wipe(all_tables=all_tables)
    assert await world.dump() != before
    counts = await world.rebuild()
    assert await world.dump() == before
    assert counts["rows_above_a_deletion"] > 0
    assert await world.rebuild() == {**counts, "rows_above_a_deletion": 0}


async def test_turns_of_other_partitions_come_in_any_order(world: World) -> None:
    before = await stored(world)
    await world.wipe(all_tables=True)
    # Five records each: the last turn first, as another partition may have it.
    for start in (10, 0, 5):
        await world.rebuild(start, start + 5)
    assert await world.dump() == before


async def test_a_conversation_that_its_user_deleted_stays_deleted(world: World) -> None:
    await stored(world)
    await CassandraConversationRecords(world.cql).delete(OWNER, world.conversation, now_ms())
    before = await world.dump()
    counts = await world.rebuild()
    assert await world.dump() == before
    assert (counts["turns"], counts["turns_left_deleted"]) == (0, 3)
    # Also when every other trace of the deletion is gone.
    await world.wipe(all_tables=True)
    await world.cql.execute("DELETE FROM conversation_owners WHERE conversation_id = ?", (world.conversation,))
    await world.cql.execute(
        "INSERT INTO conversation_owners (conversation_id, tenant_id, user_id) VALUES (?, 'tenant', 'user')",
        (world.conversation,),
    )
    await world.rebuild()
    assert not [row for row in await world.dump() if hasattr(row, "message_seq")]


async def test_messages_and_answers_that_their_user_deleted_stay_deleted(world: World) -> None:
    await stored(world)
    answers = CassandraStoredAnswers(world.cql)
    deleted = await answers.find(turn_id_of(world.first + 1))
    assert deleted is not None
    await answers.delete(deleted)
    (first, *_) = await CassandraMessageTree(world.cql).nodes(world.conversation, 10)
    await CassandraMessageTree(world.cql).delete(world.conversation, first.message_seq, now_ms())
    before = await world.dump()
    await world.rebuild()
    assert await world.dump() == before
    await world.wipe(all_tables=True)
    await world.rebuild()
    assert await world.dump() == before


async def test_deletions_from_before_they_were_noted_hold_too(world: World) -> None:
    await stored(world)
    answers = CassandraStoredAnswers(world.cql)
    deleted = await answers.find(turn_id_of(world.first + 1))
    assert deleted is not None
    await answers.delete(deleted)
    (first, *_) = await CassandraMessageTree(world.cql).nodes(world.conversation, 10)
    await CassandraMessageTree(world.cql).delete(world.conversation, first.message_seq, now_ms())
    await world.cql.execute("DELETE FROM deletions WHERE conversation_id = ?", (world.conversation,))
    before = await world.dump()
    counts = await world.rebuild()
    assert await world.dump() == before
    assert counts["rows_above_a_deletion"] == 0


async def test_names_and_metadata_that_were_given_later_stay(world: World) -> None:
    await stored(world)
    records = CassandraConversationRecords(world.cql)
    await records.change(OWNER, world.conversation, ConversationChange(title="mine", metadata={"a": "b"}), now_ms())
    await CassandraStoredAnswers(world.cql).set_metadata(turn_id_of(world.first), {"c": "d"})
    before = await world.dump()
    await world.wipe()
    await world.rebuild()
    assert await world.dump() == before


async def test_an_answer_in_progress_is_left_to_the_sink(world: World) -> None:
    await stored(world, 1)
    running = world.first + 1
    world.log.add(cleared(running, conversation=world.conversation), fence(running), delta(running, 0, "x"))
    await world.store()
    before = await world.dump()
    counts = await world.rebuild()
    assert await world.dump() == before
    assert (counts["turns"], counts["turns_in_progress"]) == (1, 1)
    world.log.add(finished(running, 1))
    await world.store()
    ended = await world.dump()
    await world.rebuild()
    assert await world.dump() == ended != before


async def test_what_is_marked_as_a_replay_is_not_written(world: World) -> None:
    world.log.add(*world.turn(0, "shadow"), headers=((REPLAY, b"run"),))
    assert (await world.rebuild())["turns"] == 0
    assert await world.dump() == []


async def test_a_conversation_without_an_owner_is_written_only_if_asked_for(
    cassandra: CassandraSession,
) -> None:
    world = World(cassandra)
    world.log.add(*world.turn(0, "x"))
    assert (await world.rebuild())["turns_without_owner"] == 1
    assert await world.dump() == []
    assert (await world.rebuild(restore_owners=True))["owners"] == 1
    assert len(await world.dump()) == 5
    owners = CassandraConversations(cassandra, 8)
    assert await owners.owners([world.conversation]) == {world.conversation: OWNER}


async def test_hot_contexts_of_what_was_written_are_dropped(world: World) -> None:
    await stored(world)
    world.contexts.warm(world.conversation, [])
    await world.rebuild()
    assert world.conversation not in world.contexts.hot
