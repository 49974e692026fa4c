"""Stored conversations: the history is used, can be read, belongs to its owner; a stateless turn leaves nothing."""

from typing import Any

import openai
import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionMessageParam

from tests.support.full_stack import MODEL, FullStack, StreamedTurn

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

UNKNOWN = "conv_" + "0" * 26


def user(text: str) -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": text}]


async def items(client: AsyncOpenAI, conversation_id: str, **query: str | int) -> dict[str, Any]:
    return await client.get(
        f"/conversations/{conversation_id}/items", cast_to=dict[str, Any], options={"params": query}
    )


def texts(page: dict[str, Any]) -> list[str]:
    return [item["content"][0]["text"] for item in page["data"]]


async def ask_stored(client: AsyncOpenAI, text: str, conversation_id: str | None = None) -> tuple[str, StreamedTurn]:
    """One streamed turn of a stored conversation; returns the conversation's id."""
    where = {"conversation_id": conversation_id} if conversation_id else {"store": True}
    stream = await client.chat.completions.create(model=MODEL, messages=user(text), stream=True, extra_body=where)
    turn = await StreamedTurn().read(stream)
    (found,) = {chunk.model_dump()["conversation_id"] for chunk in turn.chunks}
    return found, turn


async def test_the_third_turn_remembers_the_first_two(client: AsyncOpenAI) -> None:
    conversation_id, first = await ask_stored(client, "My dog is called Waldmann.")
    assert "I remember" not in first.text
    _, second = await ask_stored(client, "And my cat Minka.", conversation_id)
    _, third = await ask_stored(client, "What are they called?", conversation_id)
    assert "I remember this conversation (2 messages before this one)" in second.text
    assert "- user: My dog is called Waldmann." in second.text
    assert "I remember this conversation (4 messages before this one)" in third.text
    assert "- user: My dog is called Waldmann." in third.text
    assert "- user: And my cat Minka." in third.text


async def test_after_done_the_history_has_the_turn(client: AsyncOpenAI) -> None:
    conversation_id, first = await ask_stored(client, "One?")
    page = await items(client, conversation_id, order="asc")
    assert texts(page) == ["One?", first.text]
    question, answer = page["data"]
    assert (question["role"], answer["role"]) == ("user", "assistant")
    assert {question["status"], answer["status"]} == {"completed"}
    assert {question["turn_id"], answer["turn_id"]} == {first.turn_id}
    assert (page["first_id"], page["last_id"], page["has_more"]) == (question["id"], answer["id"], False)


async def test_history_is_read_in_pages(client: AsyncOpenAI) -> None:
    conversation_id, first = await ask_stored(client, "One?")
    _, second = await ask_stored(client, "Two?", conversation_id)
    newest = await items(client, conversation_id, limit=3)
    assert texts(newest) == [second.text, "Two?", first.text]
    assert newest["has_more"]
    rest = await items(client, conversation_id, limit=3, after=newest["last_id"])
    assert (texts(rest), rest["has_more"]) == (["One?"], False)


async def test_a_whole_answer_tells_its_conversation_too(client: AsyncOpenAI) -> None:
    raw = await client.chat.completions.with_raw_response.create(model=MODEL, messages=user("Hello?"), store=True)
    conversation_id = raw.headers["x-conversation-id"]
    answer = raw.parse()
    assert answer.model_dump()["conversation_id"] == conversation_id
    assert texts(await items(client, conversation_id, order="asc")) == ["Hello?", answer.choices[0].message.content]


async def test_a_stateless_turn_leaves_nothing_behind(turnstream: FullStack, client: AsyncOpenAI) -> None:
    earlier: list[ChatCompletionMessageParam] = [*user("First?"), {"role": "assistant", "content": "Yes."}]
    raw = await client.chat.completions.with_raw_response.create(model=MODEL, messages=[*earlier, *user("Second?")])
    completion = raw.parse()
    assert "x-conversation-id" not in raw.headers
    assert "conversation_id" not in completion.model_dump()
    assert "- assistant: Yes." in (completion.choices[0].message.content or "")
    records = await turnstream.records_of(completion.id.removeprefix("chatcmpl-"))
    submitted = next(record for record in records if record.topic == "chat.turns.submitted.v1")
    assert not [record for record in records if b'"persisted"' in record.value]
    with pytest.raises(openai.NotFoundError):
        await items(client, (submitted.key or b"").decode())


async def test_a_foreign_conversation_does_not_exist(turnstream: FullStack, client: AsyncOpenAI) -> None:
    conversation_id, _ = await ask_stored(client, "This is mine.")
    async with turnstream.client(await turnstream.new_key("free", "eve")) as eve:
        for foreign in (conversation_id, UNKNOWN, "conv_nonsense"):
            with pytest.raises(openai.NotFoundError) as read:
                await items(eve, foreign)
            with pytest.raises(openai.NotFoundError) as asked:
                await ask_stored(eve, "Let me in.", foreign)
            assert (read.value.code, asked.value.code) == ("conversation_not_found", "conversation_not_found")
            assert read.value.body == asked.value.body
    assert len((await items(client, conversation_id))["data"]) == 2
