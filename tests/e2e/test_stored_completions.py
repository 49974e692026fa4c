"""Stored chat completions as OpenAI's SDK uses them, and answers with choices, tools and log probabilities."""

from typing import Any

import pytest
from openai import BadRequestError, NotFoundError

from tests.support.full_stack import MODEL, FullStack

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

ASKED: Any = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a town.",
        "parameters": {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]},
    },
}


async def test_a_stored_completion_can_be_shown_listed_labelled_and_deleted(turnstream: FullStack) -> None:
    key = await turnstream.new_key("free", "keeper")
    async with turnstream.client(key) as client:
        made = [
            await client.chat.completions.create(model=MODEL, messages=ASKED, store=True, metadata={"run": str(run)})
            for run in range(3)
        ]
        shown = await client.chat.completions.retrieve(made[0].id)
        assert (shown.id, shown.choices, shown.usage) == (made[0].id, made[0].choices, made[0].usage)
        listed = [one.id async for one in client.chat.completions.list(limit=2, order="desc")]
        assert listed == [one.id for one in reversed(made)]
        labelled = [one.id async for one in client.chat.completions.list(metadata={"run": "1"})]
        assert labelled == [made[1].id]
        changed = await client.chat.completions.update(made[1].id, metadata={"run": "7"})
        assert changed.model_dump()["metadata"] == {"run": "7"}
        assert [one.id async for one in client.chat.completions.list(metadata={"run": "7"})] == [made[1].id]
        messages = await client.chat.completions.messages.list(made[0].id)
        assert [str(message.role) for message in messages.data] == ["system", "user"]
        deleted = await client.chat.completions.delete(made[2].id)
        assert (deleted.id, deleted.deleted) == (made[2].id, True)
        with pytest.raises(NotFoundError):
            await client.chat.completions.retrieve(made[2].id)
        assert [one.id async for one in client.chat.completions.list()] == [one.id for one in made[:2]]


async def test_what_is_not_stored_is_not_there(turnstream: FullStack) -> None:
    async with turnstream.client() as client:
        made = await client.chat.completions.create(model=MODEL, messages=ASKED)
        with pytest.raises(NotFoundError):
            await client.chat.completions.retrieve(made.id)
        with pytest.raises(BadRequestError) as refused:
            await client.chat.completions.create(model=MODEL, messages=ASKED, metadata={"a": "b"})
        assert refused.value.param == "metadata"


@pytest.mark.parametrize("stream", [False, True])
async def test_several_choices_with_log_probabilities(turnstream: FullStack, *, stream: bool) -> None:
    async with turnstream.client() as client:
        asked: Any = {"model": MODEL, "messages": ASKED, "n": 3, "logprobs": True, "top_logprobs": 2, "store": True}
        if not stream:
            made = await client.chat.completions.create(**asked)
            assert [choice.index for choice in made.choices] == [0, 1, 2]
            for choice in made.choices:
                assert choice.logprobs is not None
                assert choice.logprobs.content is not None
                assert "".join(token.token for token in choice.logprobs.content) == choice.message.content
                # The engine of this pool tells no more than what it drew.
                assert all(1 <= len(token.top_logprobs) <= 2 for token in choice.logprobs.content)
            assert (await client.chat.completions.retrieve(made.id)).choices == made.choices
            return
        texts, reasons = ["", "", ""], dict[int, str]()
        async for chunk in await client.chat.completions.create(**asked, stream=True):
            for part in chunk.choices:
                texts[part.index] += part.delta.content or ""
                if part.finish_reason:
                    reasons[part.index] = part.finish_reason
        assert all(texts)
        assert set(reasons) == {0, 1, 2}


@pytest.mark.parametrize("model", ["turnstream-fast", "turnstream-capable"])
async def test_a_tool_loop(turnstream: FullStack, model: str) -> None:
    async with turnstream.client() as client:
        messages: list[Any] = [{"role": "user", "content": "What is the weather in Paris?"}]
        asked = await client.chat.completions.create(
            model=model, messages=messages, tools=[WEATHER], tool_choice="required", store=True
        )
        choice = asked.choices[0]
        assert choice.finish_reason == "tool_calls"
        assert choice.message.tool_calls is not None
        call = choice.message.tool_calls[0]
        assert call.type == "function"
        assert call.function.name == "get_weather"
        assert (await client.chat.completions.retrieve(asked.id)).choices == asked.choices
        messages += [
            choice.message.model_dump(exclude_none=True),
            {"role": "tool", "tool_call_id": call.id, "content": "Sunny, 21 degrees"},
        ]
        told = await client.chat.completions.create(model=model, messages=messages, tools=[WEATHER])
        assert told.choices[0].finish_reason == "stop"
        assert told.choices[0].message.content
