"""What the stores of the conversations API keep, on real Cassandra, beside what the sink writes there."""

import secrets
from dataclasses import replace

import pytest

from consumers.cassandra_sink.cassandra_rows import CassandraRows
from consumers.cassandra_sink.rows import ConversationRow, MessageRow, TitleRow
from producers.conversations.ports import ConversationChange
from schemas.content import Content
from schemas.events import NO_PARENT
from schemas.ids import new_conversation_id
from schemas.messages import Role, ToolCall
from schemas.ports import Owner
from stream_processors.auth.cassandra_conversations import CassandraConversations
from stream_processors.prompt.cassandra_history import CassandraHistory
from turnstream.stores.cassandra import CassandraSession
from turnstream.stores.conversations import CassandraConversationRecords
from turnstream.stores.message_tree import CassandraMessageTree

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

START_MS = 1_700_000_000_000
NOTHING = ConversationChange()
IN_FLIGHT_MAX = 4


@pytest.fixture
def owner() -> Owner:
    return Owner("acme", secrets.token_hex(8))


@pytest.fixture
def one() -> str:
    return new_conversation_id(START_MS, secrets.token_bytes(10))


def message(conversation: str, seq: int, parent: int | None, text: str = "text") -> MessageRow:
    return MessageRow(
        conversation_id=conversation,
        message_seq=seq,
        turn_id="turn",
        role=Role.ASSISTANT,
        name=None,
        content=Content(text),
        status="complete",
        finish_reason=None,
        model="model",
        prompt_tokens=None,
        completion_tokens=None,
        created_at_ms=START_MS,
        written_us=START_MS * 1000,
        parent_seq=parent,
    )


def listed(owner: Owner, conversation: str) -> ConversationRow:
    return ConversationRow(owner.tenant_id, owner.user_id, conversation, "turn", START_MS, START_MS * 1000)


def title(owner: Owner, conversation: str, text: str, written_us: int) -> TitleRow:
    return TitleRow(owner.tenant_id, owner.user_id, conversation, text, written_us)


async def test_a_conversation_is_created_changed_and_found(cassandra: CassandraSession, owner: Owner, one: str) -> None:
    records = CassandraConversationRecords(cassandra)
    await records.create(owner, one, ConversationChange(metadata={"a": "b"}), START_MS)
    assert await CassandraConversations(cassandra, IN_FLIGHT_MAX).owners([one]) == {one: owner}
    await CassandraRows(cassandra).write([], [], (), [title(owner, one, "second", 1), title(owner, one, "first", 2)])
    found = (await records.find(owner, [one, one + "x"]))[one]
    assert (found.title, found.metadata, found.updated_at_ms) == ("first", {"a": "b"}, START_MS)
    await records.change(owner, one, ConversationChange(title="mine", metadata={"c": "d"}), START_MS + 1)
    await CassandraRows(cassandra).write([], [], (), [title(owner, one, "other", 3)])
    found = (await records.find(owner, [one]))[one]
    assert (found.title, found.metadata) == ("mine", {"c": "d"})
    await records.change(owner, one, ConversationChange(title="", metadata={}), START_MS + 2)
    found = (await records.find(owner, [one]))[one]
    assert (found.title, found.metadata) == ("other", {})


async def test_a_list_is_read_in_pages_up_to_its_bound(
    cassandra: CassandraSession, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("turnstream.stores.conversations._SCAN_ROWS_MAX", 2)
    records = CassandraConversationRecords(cassandra)
    made = [new_conversation_id(START_MS + number, bytes(10)) for number in range(5)]
    for conversation in made:
        await CassandraRows(cassandra).write([], [listed(owner, conversation)])
    for bound in (1, 4, 5, 9):
        found = await records.newest(owner, bound)
        assert [each.conversation_id for each in found] == made[::-1][:bound]


async def test_a_deleted_conversation_stays_deleted_when_the_sink_writes_it_again(
    cassandra: CassandraSession, owner: Owner, one: str
) -> None:
    records, tree, rows = (
        CassandraConversationRecords(cassandra),
        CassandraMessageTree(cassandra),
        CassandraRows(cassandra),
    )
    owners = CassandraConversations(cassandra, IN_FLIGHT_MAX)
    written = ([message(one, 1, NO_PARENT)], [listed(owner, one)], (), [title(owner, one, "first", 2)])
    await owners.claim({one: owner}, START_MS)
    await rows.write(*written)
    await records.delete(owner, one, START_MS + 10)
    await owners.claim({one: owner}, START_MS)
    await rows.write(*written)
    assert await owners.owners([one]) == {}
    assert await records.find(owner, [one]) == {}
    (tombstone,) = await records.newest(owner, 10)
    assert (tombstone.deleted, tombstone.title) == (True, None)
    assert await tree.nodes(one, 10) == []
    assert await tree.messages(one, [1]) == []


async def test_a_tree_is_read_in_windows_and_keeps_the_places_of_deleted_messages(
    cassandra: CassandraSession, one: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("turnstream.stores.message_tree._SCAN_ROWS_MAX", 2)
    tree, rows = CassandraMessageTree(cassandra), CassandraRows(cassandra)
    call = ToolCall(id="c1", name="look", arguments=Content('{"a": "\N{BROKEN BAR}"}'))
    calling = replace(message(one, 3, 1, ""), tool_calls=(call,))
    tool = replace(message(one, 4, 3, "found"), role=Role.TOOL, tool_call_id="c1")
    written = [message(one, 1, NO_PARENT), message(one, 2, 1, "secret"), calling, tool]
    await rows.write(written, [])
    await tree.delete(one, 2, START_MS + 10)
    await rows.write(written, [])
    nodes = await tree.nodes(one, 10)
    assert [(node.message_seq, node.parent_seq, node.deleted) for node in nodes] == [
        *((1, NO_PARENT, False), (2, 1, True), (3, 1, False), (4, 3, False))
    ]
    assert [node.message_seq for node in await tree.nodes(one, 3)] == [2, 3, 4]
    found = await tree.messages(one, [4, 2, 3, 99])
    assert [stored.message_seq for stored in found] == [4, 2, 3]
    assert (found[0].message.tool_call_id, found[2].message.tool_calls) == ("c1", (call,))
    assert (found[1].deleted, found[1].message.content.text) == (True, "")
    history = CassandraHistory(cassandra, IN_FLIGHT_MAX)
    (recent,) = (await history.recent([one], 10)).values()
    assert [(stored.message_seq, stored.parent_seq, stored.deleted) for stored in recent] == [
        *((1, NO_PARENT, False), (2, 1, True), (3, 1, False), (4, 3, False))
    ]
    assert (recent[1].message.content.text, recent[2].message.tool_calls) == ("", (call,))
    (older,) = await history.older([(one, 3)], 2)
    assert [stored.message_seq for stored in older] == [2, 3]
