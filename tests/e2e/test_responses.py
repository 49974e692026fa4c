"""The Responses API as OpenAI's SDK uses it: whole, streamed, in the background, picked up again, continued."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from openai import APIStatusError, AsyncOpenAI, BadRequestError, ConflictError, NotFoundError
from openai.types.responses import Response, ResponseFunctionToolCall

from tests.support.full_stack import MODEL, FullStack

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

SLOW = "[[demo first_ms=10 gap_ms=40 tokens=40]]"
LONG = "[[demo first_ms=10 gap_ms=100 tokens=400]]"
WEATHER: Any = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather of a town.",
    "parameters": {
        "type": "object",
        "properties": {"town": {"type": "string"}},
        "required": ["town"],
        "additionalProperties": False,
    },
    "strict": True,
}


async def ended(client: AsyncOpenAI, response_id: str) -> Response:
    """The response once it is over."""
    async with asyncio.timeout(40):
        while True:
            response = await client.responses.retrieve(response_id)
            if response.status not in {"queued", "in_progress"}:
                return response
            await asyncio.sleep(0.05)


async def test_a_whole_response_is_stored_and_can_be_read_again(turnstream: FullStack) -> None:
    async with turnstream.client() as client:
        made = await client.responses.create(model=MODEL, input="Hi", instructions="Be kind.", metadata={"a": "b"})
        assert (made.status, made.model, made.metadata, made.instructions) == (
            "completed",
            MODEL,
            {"a": "b"},
            "Be kind.",
        )
        assert made.output_text
        assert made.usage is not None
        assert made.usage.total_tokens == made.usage.input_tokens + made.usage.output_tokens
        assert await client.responses.retrieve(made.id) == made
        items = await client.responses.input_items.list(made.id)
        assert [item.type for item in items.data] == ["message"]


async def test_a_stream_can_be_taken_up_again_behind_any_event(turnstream: FullStack) -> None:
    async with turnstream.client() as client:
        stream = await client.responses.create(model=MODEL, input=SLOW, stream=True)
        events = [event async for event in stream]
        assert [event.sequence_number for event in events] == list(range(len(events)))
        assert events[-1].type == "response.completed"
        response_id = events[-1].response.id
        for after in (0, 3, len(events) - 2):
            resumed = await client.responses.retrieve(response_id, stream=True, starting_after=after)
            assert [event async for event in resumed] == events[after + 1 :]
        again = await client.responses.retrieve(response_id, stream=True)
        assert [event async for event in again] == events


async def test_the_sdks_helper_follows_a_response_that_runs(turnstream: FullStack) -> None:
    async with turnstream.client() as client:
        made = await client.responses.create(model=MODEL, input=SLOW, background=True)
        assert made.status in {"queued", "in_progress"}
        async with client.responses.stream(response_id=made.id, starting_after=2) as stream:
            numbers = [event.sequence_number async for event in stream]
            final = await stream.get_final_response()
        assert numbers == list(range(3, 3 + len(numbers)))
        assert final.status == "completed"
        assert (await ended(client, made.id)).output_text == final.output_text


async def test_a_response_in_the_background_needs_nobody_to_wait(turnstream: FullStack) -> None:
    async with turnstream.client() as client:
        stream = await client.responses.create(model=MODEL, input=SLOW, background=True, stream=True)
        first = await anext(aiter(stream))
        await stream.close()
        assert first.type == "response.created"
        response = await ended(client, first.response.id)
        assert (response.status, response.background) == ("completed", True)
        with pytest.raises(BadRequestError):
            await client.responses.create(model=MODEL, input="Hi", background=True, store=False)


async def test_a_response_can_be_stopped(turnstream: FullStack) -> None:
    async with turnstream.client() as client:
        made = await client.responses.create(model=MODEL, input=LONG, background=True)
        stopped = await client.responses.cancel(made.id)
        assert stopped.status == "cancelled"
        assert (await client.responses.retrieve(made.id)).status == "cancelled"
        assert (await ended(client, made.id)).status == "cancelled"
        assert (await client.responses.cancel(made.id)).status == "cancelled"


async def test_a_response_continues_another_even_beside_its_like(turnstream: FullStack) -> None:
    async with turnstream.client() as client:
        first = await client.responses.create(model=MODEL, input="One", instructions="Be brief.")
        both = await asyncio.gather(
            *(client.responses.create(model=MODEL, input=text, previous_response_id=first.id) for text in ("A", "B"))
        )
        assert first.usage is not None
        for response in both:
            assert response.usage is not None
            assert response.previous_response_id == first.id
            assert response.usage.input_tokens > first.usage.input_tokens
        unstored = await client.responses.create(model=MODEL, input="C", previous_response_id=both[0].id, store=False)
        assert unstored.usage is not None
        assert both[0].usage is not None
        assert unstored.usage.input_tokens > both[0].usage.input_tokens
        with pytest.raises(NotFoundError):
            await client.responses.retrieve(unstored.id)


async def test_a_response_belongs_to_its_conversation(turnstream: FullStack) -> None:
    async with turnstream.client() as client:
        conversation = await client.conversations.create()
        made = await client.responses.create(model=MODEL, input="Hi", conversation=conversation.id)
        assert made.conversation is not None
        assert made.conversation.id == conversation.id
        items = await client.conversations.items.list(conversation.id, order="asc")
        assert [item.id for item in items.data][-1:] == [made.output[0].id]
        with pytest.raises(BadRequestError):
            await client.responses.create(
                model=MODEL, input="Hi", conversation=conversation.id, previous_response_id=made.id
            )


async def test_a_deleted_response_is_gone(turnstream: FullStack) -> None:
    async with turnstream.client() as client:
        made = await client.responses.create(model=MODEL, input="Hi")
        await client.responses.delete(made.id)
        uses: list[Callable[[], Any]] = [
            lambda: client.responses.retrieve(made.id),
            lambda: client.responses.retrieve(made.id, stream=True),
            lambda: client.responses.delete(made.id),
            lambda: client.responses.cancel(made.id),
        ]
        for use in uses:
            with pytest.raises(NotFoundError):
                await use()
        with pytest.raises(BadRequestError) as refused:
            await client.responses.create(model=MODEL, input="Hi", previous_response_id=made.id)
        assert refused.value.code == "previous_response_not_found"


async def test_what_runs_cannot_be_continued_or_deleted(turnstream: FullStack) -> None:
    async with turnstream.client() as client:
        made = await client.responses.create(model=MODEL, input=LONG, background=True)
        with pytest.raises(ConflictError):
            await client.responses.create(model=MODEL, input="Hi", previous_response_id=made.id)
        with pytest.raises(ConflictError):
            await client.responses.delete(made.id)
        await client.responses.cancel(made.id)


async def test_tools_go_to_the_model_and_their_results_come_back(turnstream: FullStack) -> None:
    async with turnstream.client() as client:
        asked = await client.responses.create(
            model=MODEL, input="What is the weather in Paris?", tools=[WEATHER], tool_choice="required"
        )
        call = asked.output[0]
        assert isinstance(call, ResponseFunctionToolCall)
        assert call.name == "get_weather"
        output: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "Sunny, 21 degrees"}
        told = await client.responses.create(
            model=MODEL, input=[output], previous_response_id=asked.id, tools=[WEATHER]
        )
        assert told.output_text
        assert (await client.responses.retrieve(asked.id)).output == asked.output


async def test_what_is_not_supported_is_named(turnstream: FullStack) -> None:
    async with turnstream.client() as client:
        wrong: list[tuple[dict[str, Any], str]] = [
            ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
            ({"truncation": "disabled"}, "truncation"),
            ({"max_output_tokens": 0}, "max_output_tokens"),
            ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0]"),
            ({"text": {"format": {"type": "grammar"}}}, "text.format"),
            ({"frobnicate": 1}, "frobnicate"),
        ]
        for fields, param in wrong:
            with pytest.raises(APIStatusError) as refused:
                await client.post("/responses", body={"model": MODEL, "input": "Hi", **fields}, cast_to=object)
            assert (refused.value.status_code, refused.value.param) == (400, param)
