"""Stopping an answer: by its owner's word, or by leaving."""

import asyncio
import json
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, AsyncStream
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

from tests.support.full_stack import MODEL, FullStack, StreamedTurn, eventually, stored_answer

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

# Half a minute of answer: no test waits for its end.
LONG: list[ChatCompletionMessageParam] = [{"role": "user", "content": "[[demo tokens=600 gap_ms=50 first_ms=0]] Hi"}]


async def begun(client: AsyncOpenAI, **fields: Any) -> tuple[AsyncStream[ChatCompletionChunk], StreamedTurn]:
    """A long answer of which the client has read the first text."""
    stream = await client.chat.completions.create(model=MODEL, messages=LONG, stream=True, extra_body=fields)
    return stream, await StreamedTurn().read(stream, until="This")


async def cancel(client: AsyncOpenAI, completion_id: str) -> dict[str, Any]:
    return await client.post(f"/chat/completions/{completion_id}/cancel", cast_to=dict[str, Any])


async def bill(turnstream: FullStack, turn_id: str) -> dict[str, Any]:
    """The usage event of a turn, once it is on the log."""

    async def found() -> list[bytes]:
        records = await turnstream.records_of(turn_id)
        return [record.value for record in records if record.topic == "usage.events.v1"]

    (value,) = await eventually(found)
    event: dict[str, Any] = json.loads(value)
    return event


async def test_cancel_ends_the_answer_and_the_generation(turnstream: FullStack, client: AsyncOpenAI) -> None:
    stream, turn = await begun(client)
    assert await cancel(client, turn.id) == {
        "id": turn.id,
        "object": "chat.completion.cancelled",
        "cancelled": True,
    }
    async with asyncio.timeout(5):
        await turn.read(stream)
    assert turn.finish_reasons == ["stop"]
    assert turn.chunks[-1].model_dump()["cancelled"] == "client"
    usage = await bill(turnstream, turn.turn_id)
    assert usage["finish_reason"] == "cancelled"
    assert 0 < usage["usage"]["completion_tokens"] < 300
    assert (await cancel(client, turn.id))["cancelled"] is True


async def test_only_its_owner_may_cancel(turnstream: FullStack, client: AsyncOpenAI) -> None:
    stream, turn = await begun(client)
    async with turnstream.client(await turnstream.new_key("free", "mallory")) as mallory:
        with pytest.raises(openai.NotFoundError) as caught:
            await cancel(mallory, turn.id)
    assert caught.value.code == "completion_not_found"
    assert (await anext(stream)).choices[0].delta.content
    await cancel(client, turn.id)
    await stream.close()


async def test_a_finished_answer_stays_finished(client: AsyncOpenAI) -> None:
    completion = await client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Hi"}])
    assert (await cancel(client, completion.id))["cancelled"] is False


async def test_leaving_a_stateless_answer_cancels_it(turnstream: FullStack, client: AsyncOpenAI) -> None:
    stream, turn = await begun(client)
    await stream.close()
    usage = await bill(turnstream, turn.turn_id)
    assert usage["finish_reason"] == "cancelled"
    assert 0 < usage["usage"]["completion_tokens"] < 300


async def test_leaving_a_stored_answer_lets_it_end_in_the_history(client: AsyncOpenAI) -> None:
    question: ChatCompletionMessageParam = {"role": "user", "content": "[[demo tokens=60 gap_ms=20]] Hi"}
    stream = await client.chat.completions.create(
        model=MODEL, messages=[question], stream=True, extra_body={"store": True}
    )
    conversation_id = (await anext(stream)).model_dump()["conversation_id"]
    await stream.close()
    assert (await stored_answer(client, conversation_id)).endswith(" 58 59 60")
