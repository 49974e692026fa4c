"""Tools as pass-through: the client runs them, the model asks for them and uses what they said."""

import json
from typing import Any

import pytest
from openai import OpenAI, pydantic_function_tool
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam
from pydantic import BaseModel

MODEL = "turnstream-fast"
WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city now.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "The city"}},
            "required": ["city"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}
ASKED: list[ChatCompletionMessageParam] = [{"role": "user", "content": "What is the weather in Rome? Use the tool."}]


class GetPopulation(BaseModel):
    """The population of a city."""

    city: str
    year: int


def test_a_loop_of_question_call_result_and_answer(client: OpenAI) -> None:
    messages = list(ASKED)
    first = client.chat.completions.create(model=MODEL, messages=messages, tools=[WEATHER])
    choice = first.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls
    call = choice.message.tool_calls[0]
    assert call.type == "function"
    assert call.function.name == "get_weather"
    assert set(json.loads(call.function.arguments)) == {"city"}
    said: Any = choice.message.model_dump(exclude_none=True)
    messages += [said, {"role": "tool", "tool_call_id": call.id, "content": "Sunny, 31 degrees"}]
    second = client.chat.completions.create(model=MODEL, messages=messages, tools=[WEATHER])
    assert second.choices[0].finish_reason == "stop"
    assert "31" in (second.choices[0].message.content or "")


def test_a_streamed_call(client: OpenAI) -> None:
    stream = client.chat.completions.create(
        model=MODEL, messages=ASKED, tools=[WEATHER], tool_choice="required", stream=True
    )
    name, arguments, reasons = "", "", []
    ids = set()
    for chunk in stream:
        for choice in chunk.choices:
            reasons += [choice.finish_reason] if choice.finish_reason else []
            for call in choice.delta.tool_calls or []:
                ids |= {call.id} if call.id else set()
                if call.function:
                    name += call.function.name or ""
                    arguments += call.function.arguments or ""
    assert (name, reasons, len(ids)) == ("get_weather", ["tool_calls"], 1)
    assert "city" in json.loads(arguments)


def test_the_stream_helper_gathers_calls(client: OpenAI) -> None:
    with client.chat.completions.stream(model=MODEL, messages=ASKED, tools=[WEATHER], tool_choice="required") as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert "tool_calls.function.arguments.done" in kinds
    assert final.choices[0].message.tool_calls


def test_a_named_tool_is_called(client: OpenAI) -> None:
    completion = client.chat.completions.parse(
        model=MODEL,
        messages=[{"role": "user", "content": "How many people live in Rome in 2020?"}],
        tools=[pydantic_function_tool(GetPopulation)],
        tool_choice={"type": "function", "function": {"name": "GetPopulation"}},
    )
    calls = completion.choices[0].message.tool_calls
    assert calls
    assert isinstance(calls[0].function.parsed_arguments, GetPopulation)


@pytest.mark.parametrize("choice", ["none", "auto"])
def test_text_where_no_tool_is_wanted(client: OpenAI, choice: Any) -> None:
    completion = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "Hello"}], tools=[WEATHER], tool_choice=choice
    )
    assert completion.choices[0].message.content
    assert not completion.choices[0].message.tool_calls


def test_a_call_in_a_stored_conversation(client: OpenAI) -> None:
    first = client.chat.completions.create(model=MODEL, messages=ASKED, tools=[WEATHER], store=True)
    calls = first.choices[0].message.tool_calls
    assert calls
    second = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "tool", "tool_call_id": calls[0].id, "content": "Rain, 12 degrees"}],
        tools=[WEATHER],
        extra_body={"conversation_id": (first.model_extra or {})["conversation_id"]},
    )
    assert "12" in (second.choices[0].message.content or "")
