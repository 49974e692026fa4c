"""Stored completions: list, get, update, delete, and their messages."""

import uuid

import pytest
from openai import NotFoundError, OpenAI

MODEL = "turnstream-fast"


def test_the_life_of_a_stored_completion(client: OpenAI) -> None:
    mark = uuid.uuid4().hex
    made = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "Keep this"}], store=True, metadata={"mark": mark}
    )
    got = client.chat.completions.retrieve(made.id)
    assert got.choices[0].message.content == made.choices[0].message.content
    assert got.usage == made.usage
    listed = client.chat.completions.list(metadata={"mark": mark})
    assert [one.id for one in listed] == [made.id]
    messages = list(client.chat.completions.messages.list(made.id))
    assert [message.content for message in messages] == ["Keep this"]
    changed = client.chat.completions.update(made.id, metadata={"mark": mark, "kept": "yes"})
    assert changed.metadata == {"mark": mark, "kept": "yes"}
    gone = client.chat.completions.delete(made.id)
    assert (gone.id, gone.deleted) == (made.id, True)
    with pytest.raises(NotFoundError):
        client.chat.completions.retrieve(made.id)


def test_pages_of_stored_completions(client: OpenAI) -> None:
    mark = uuid.uuid4().hex
    made = [
        client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": f"Number {number}"}],
            store=True,
            metadata={"mark": mark},
            max_completion_tokens=5,
        ).id
        for number in range(3)
    ]
    listed = [one.id for one in client.chat.completions.list(metadata={"mark": mark}, limit=1, order="asc")]
    assert listed == made
    newest = [one.id for one in client.chat.completions.list(metadata={"mark": mark}, limit=2, order="desc")]
    assert newest == made[::-1]


def test_what_is_not_stored_is_not_found(client: OpenAI) -> None:
    made = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Forget this"}])
    with pytest.raises(NotFoundError):
        client.chat.completions.retrieve(made.id)
