"""What the sink's side of the hot contexts must keep, in memory and in Redis."""

import secrets
from collections.abc import Sequence
from typing import Protocol

import pytest

from consumers.cassandra_sink.ports import ContextUpdate
from schemas.content import Content
from schemas.messages import Message, Role
from schemas.ports import StoredMessage


class Contexts(Protocol):
    """What the fixture gives."""

    async def refresh(self, updates: Sequence[ContextUpdate], doubtful: Sequence[str]) -> None: ...

    async def fill(self, conversation_id: str, messages: list[StoredMessage]) -> None: ...

    async def inside(self, conversation_id: str) -> list[StoredMessage] | None: ...


@pytest.fixture
def conversation() -> str:
    return f"conv_{secrets.token_hex(8)}"


def stored(seq: int) -> StoredMessage:
    return StoredMessage(
        message_seq=seq,
        turn_id=f"turn-{seq}",
        message=Message(role=Role.USER, content=Content(f"text ü {seq}")),
        complete=True,
        created_at_ms=seq,
    )


async def test_a_context_that_exists_is_extended(contexts: Contexts, conversation: str) -> None:
    await contexts.fill(conversation, [stored(1)])
    await contexts.refresh([ContextUpdate(conversation, (stored(2), stored(3)))], ())
    assert await contexts.inside(conversation) == [stored(1), stored(2), stored(3)]


async def test_a_context_that_does_not_exist_is_not_made(contexts: Contexts, conversation: str) -> None:
    await contexts.refresh([ContextUpdate(conversation, (stored(2),))], ())
    assert await contexts.inside(conversation) is None


async def test_an_empty_whole_context_is_extended(contexts: Contexts, conversation: str) -> None:
    await contexts.fill(conversation, [])
    await contexts.refresh([ContextUpdate(conversation, (stored(1),))], ())
    assert await contexts.inside(conversation) == [stored(1)]


async def test_only_the_newest_messages_are_kept(contexts: Contexts, conversation: str) -> None:
    await contexts.fill(conversation, [stored(seq) for seq in (8, 9, 10)])
    await contexts.refresh([ContextUpdate(conversation, (stored(11), stored(1 << 60)))], ())
    assert await contexts.inside(conversation) == [stored(seq) for seq in (9, 10, 11, 1 << 60)]


async def test_extending_again_changes_nothing(contexts: Contexts, conversation: str) -> None:
    await contexts.fill(conversation, [stored(1)])
    for _ in range(2):
        await contexts.refresh([ContextUpdate(conversation, (stored(2),))], ())
    assert await contexts.inside(conversation) == [stored(1), stored(2)]


async def test_a_doubtful_context_goes_and_is_not_extended_in_the_same_call(
    contexts: Contexts, conversation: str
) -> None:
    await contexts.fill(conversation, [stored(1)])
    await contexts.refresh([ContextUpdate(conversation, (stored(2),))], (conversation,))
    assert await contexts.inside(conversation) is None


async def test_conversations_do_not_mix(contexts: Contexts, conversation: str) -> None:
    other = conversation + "x"
    await contexts.fill(conversation, [stored(1)])
    await contexts.fill(other, [stored(1)])
    await contexts.refresh([ContextUpdate(conversation, (stored(2),))], (other,))
    assert await contexts.inside(conversation) == [stored(1), stored(2)]
    assert await contexts.inside(other) is None
