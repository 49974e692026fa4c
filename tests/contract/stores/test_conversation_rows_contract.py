"""What the rows of conversations must keep, in memory and in Cassandra."""

import secrets
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import pytest

from consumers.cassandra_sink.rows import ConversationRow, MessageRow, Status
from schemas.content import Content
from schemas.events import FinishReason
from schemas.messages import Role
from schemas.ports import StoredMessage


class Conversations(Protocol):
    """What the fixture gives."""

    @property
    def rows(self) -> "Rows": ...

    @property
    def pages(self) -> "Pages": ...


class Rows(Protocol):
    async def write(self, messages: Sequence[MessageRow], conversations: Sequence[ConversationRow]) -> None: ...


class Pages(Protocol):
    async def page(
        self, conversation_id: str, limit: int, after: int | None, *, newest_first: bool
    ) -> Sequence[StoredMessage]: ...


@pytest.fixture
def conversation() -> str:
    return f"conv_{secrets.token_hex(8)}"


def message(
    conversation: str, seq: int, text: str = "text", status: Status = "complete", at_us: int = 10
) -> MessageRow:
    return MessageRow(
        conversation_id=conversation,
        message_seq=seq,
        turn_id=f"turn-{seq}",
        role=Role.ASSISTANT,
        name=None,
        content=Content(text),
        status=status,
        finish_reason=None if status == "streaming" else FinishReason.STOP,
        model="model",
        prompt_tokens=None,
        completion_tokens=None,
        created_at_ms=1_700_000_000_123,
        written_us=at_us,
    )


async def whole(conversations: Conversations, conversation: str) -> list[StoredMessage]:
    return list(await conversations.pages.page(conversation, 101, None, newest_first=False))


async def test_a_message_comes_back_as_it_was_written(conversations: Conversations, conversation: str) -> None:
    row = replace(message(conversation, 1 << 60, "käse\n\x00 end"), role=Role.USER, name="ann")
    await conversations.rows.write([row], [])
    (stored,) = await whole(conversations, conversation)
    assert (stored.message_seq, stored.turn_id, stored.complete) == (row.message_seq, row.turn_id, True)
    assert stored.created_at_ms == row.created_at_ms
    assert (stored.message.role, stored.message.content, stored.message.name) == (Role.USER, row.content, "ann")


async def test_an_empty_answer_is_an_answer(conversations: Conversations, conversation: str) -> None:
    await conversations.rows.write([message(conversation, 1, "")], [])
    (stored,) = await whole(conversations, conversation)
    assert stored.message.content == Content("")


@pytest.mark.parametrize("final_first", [True, False])
async def test_the_newest_write_wins_in_any_order(
    conversations: Conversations, conversation: str, *, final_first: bool
) -> None:
    draft = message(conversation, 1, "dra", "streaming", at_us=10)
    final = message(conversation, 1, "draft", "complete", at_us=11)
    for row in (final, draft) if final_first else (draft, final):
        await conversations.rows.write([row], [])
    (stored,) = await whole(conversations, conversation)
    assert (stored.message.content, stored.complete) == (Content("draft"), True)


async def test_writing_again_changes_nothing(conversations: Conversations, conversation: str) -> None:
    row = message(conversation, 1)
    owner = ConversationRow("tenant", "user", conversation, "turn-1", 5, 10)
    for _ in range(2):
        await conversations.rows.write([row], [owner])
    assert len(await whole(conversations, conversation)) == 1


async def test_an_absent_value_leaves_the_column_alone(conversations: Conversations, conversation: str) -> None:
    named = replace(message(conversation, 1, at_us=10), name="ann")
    await conversations.rows.write([named], [])
    await conversations.rows.write([message(conversation, 1, at_us=11)], [])
    (stored,) = await whole(conversations, conversation)
    assert stored.message.name == "ann"


@pytest.mark.parametrize("status", ["streaming", "incomplete"])
async def test_what_is_not_complete_is_shown_as_such(
    conversations: Conversations, conversation: str, status: Status
) -> None:
    await conversations.rows.write([message(conversation, 1, status=status)], [])
    (stored,) = await whole(conversations, conversation)
    assert stored.complete is False


@pytest.mark.parametrize(
    ("limit", "after", "newest_first", "expected"),
    [
        (101, None, False, [1, 2, 3, 4, 5]),
        (101, None, True, [5, 4, 3, 2, 1]),
        (2, None, False, [1, 2]),
        (2, None, True, [5, 4]),
        (2, 2, False, [3, 4]),
        (2, 4, True, [3, 2]),
        (2, 5, False, []),
        (2, 1, True, []),
        (9, 0, False, [1, 2, 3, 4, 5]),
    ],
)
async def test_pages_go_on_strictly_beyond_the_last_message(
    conversations: Conversations,
    conversation: str,
    limit: int,
    after: int | None,
    *,
    newest_first: bool,
    expected: list[int],
) -> None:
    await conversations.rows.write([message(conversation, seq) for seq in (3, 1, 5, 2, 4)], [])
    found = await conversations.pages.page(conversation, limit, after, newest_first=newest_first)
    assert [stored.message_seq for stored in found] == expected


async def test_conversations_do_not_mix_and_an_unknown_one_is_empty(
    conversations: Conversations, conversation: str
) -> None:
    await conversations.rows.write([message(conversation, 1)], [])
    assert await whole(conversations, conversation + "x") == []
