"""Conversations through OpenAI's SDK for Python."""

import openai
import pytest
from openai import OpenAI

MODEL = "turnstream-fast"


def test_the_life_of_a_conversation(client: OpenAI) -> None:
    made = client.conversations.create(
        metadata={"topic": "demo"}, items=[{"type": "message", "role": "user", "content": "Hello!"}]
    )
    assert made.object == "conversation"
    assert client.conversations.retrieve(made.id).metadata == {"topic": "demo"}
    changed = client.conversations.update(made.id, metadata={"topic": "other"})
    assert changed.metadata == {"topic": "other"}
    gone = client.conversations.delete(made.id)
    assert (gone.id, gone.deleted) == (made.id, True)
    with pytest.raises(openai.NotFoundError):
        client.conversations.retrieve(made.id)


def test_items_are_added_listed_shown_and_removed(client: OpenAI) -> None:
    made = client.conversations.create()
    added = client.conversations.items.create(
        made.id,
        items=[
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "One"}]},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Two"}]},
        ],
    )
    assert len(added.data) == 2
    listed = list(client.conversations.items.list(made.id, order="asc", limit=1))
    assert [item.id for item in listed] == [item.id for item in added.data]
    first = listed[0]
    assert first.id is not None
    shown = client.conversations.items.retrieve(first.id, conversation_id=made.id)
    assert shown.type == "message"
    assert client.conversations.items.delete(first.id, conversation_id=made.id).id == made.id
    with pytest.raises(openai.NotFoundError):
        client.conversations.items.retrieve(first.id, conversation_id=made.id)


def test_a_response_within_a_conversation(client: OpenAI) -> None:
    made = client.conversations.create()
    client.responses.create(model=MODEL, input="My name is Ada.", conversation=made.id)
    second = client.responses.create(model=MODEL, input="What is my name?", conversation=made.id)
    assert "Ada" in second.output_text
    assert second.conversation is not None
    assert second.conversation.id == made.id
    kinds = [item.type for item in client.conversations.items.list(made.id, order="asc")]
    assert kinds == ["message"] * 4
