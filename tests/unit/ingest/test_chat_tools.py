"""Tools, choices and forms of answers in a chat completion request: what they become, and how they are refused."""

import json
from typing import Any

import pytest

from producers.chat_completions.request import parse_request, turn_request
from producers.http.refused import RequestRefused
from producers.ingest.turn_request import TurnRequest
from schemas.errors import Refusal
from schemas.generation import PLAIN, ToolChoice
from schemas.messages import Role

SECRET = "the-user-wrote-this"  # noqa: S105
SCHEMA = {"type": "object", "properties": {"town": {"type": "string"}}}
FUNCTION = {"name": "weather", "description": SECRET, "parameters": SCHEMA, "strict": True}
TOOL = {"type": "function", "function": FUNCTION}
HUGE = {"name": "x", "parameters": {"a": "b" * 70_000}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
ASKING = {"role": "user", "content": "Hi"}
CALLING = {"role": "assistant", "content": None, "tool_calls": [CALL]}
TELLING = {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "Rain"}]}


def read(**fields: Any) -> TurnRequest:
    whole = {"model": "m", "messages": [ASKING], **fields}
    return turn_request(parse_request(json.dumps(whole).encode()))


def refused(**fields: Any) -> Refusal:
    with pytest.raises(RequestRefused) as caught:
        read(**fields)
    assert SECRET not in caught.value.refusal.model_dump_json()
    return caught.value.refusal


def test_what_asks_for_nothing_but_text_is_plain() -> None:
    nothing = {"tools": [], "tool_choice": "auto", "response_format": {"type": "text"}, "n": 1, "logprobs": False}
    assert read().generation == PLAIN
    assert read(**nothing).generation.model_copy(update={"tool_choice": None}) == PLAIN


def test_a_tool_travels_with_its_schema_as_text() -> None:
    (tool,) = read(tools=[TOOL]).generation.tools
    assert (tool.name, tool.strict) == ("weather", True)
    assert tool.parameters is not None
    assert json.loads(tool.parameters.text) == SCHEMA


@pytest.mark.parametrize(
    ("asked", "choice"),
    [
        ("none", ToolChoice(mode="none")),
        ("required", ToolChoice(mode="required")),
        ({"type": "function", "function": {"name": "weather"}}, ToolChoice(mode="required", function="weather")),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "weather"}}]},
            },
            ToolChoice(mode="auto", allowed=("weather",)),
        ),
    ],
)
def test_every_choice_of_tools(asked: object, choice: ToolChoice) -> None:
    assert read(tools=[TOOL], tool_choice=asked).generation.tool_choice == choice


def test_every_form_of_an_answer() -> None:
    form = {"type": "json_schema", "json_schema": {"name": "town", "schema": SCHEMA, "strict": True}}
    read_form = read(response_format=form).generation.response_format
    assert read_form is not None
    assert (read_form.kind, read_form.name, read_form.strict) == ("json_schema", "town", True)
    assert read_form.json_schema is not None
    assert json.loads(read_form.json_schema.text) == SCHEMA
    read_form = read(response_format={"type": "json_object"}).generation.response_format
    assert read_form is not None
    assert read_form.kind == "json_object"


def test_choices_biases_and_efforts() -> None:
    asked = read(
        n=3, logprobs=True, top_logprobs=2, logit_bias={"50256": -100}, reasoning_effort="low", verbosity="low"
    )
    generation = asked.generation
    assert (generation.n, generation.logprobs, generation.top_logprobs) == (3, True, 2)
    assert (generation.reasoning_effort, generation.verbosity) == ("low", "low")
    assert asked.sampling.logit_bias == {"50256": -100}


def test_calls_and_what_the_tools_said_travel_as_messages() -> None:
    _, calling, telling = read(messages=[ASKING, CALLING, TELLING]).messages
    assert (calling.role, calling.content.text, calling.tool_calls[0].name) == (Role.ASSISTANT, "", "weather")
    assert (telling.role, telling.content.text, telling.tool_call_id) == (Role.TOOL, "Rain", "call_1")


def test_a_tool_may_answer_a_call_that_the_conversation_holds() -> None:
    conversation = "conv_" + "0" * 26
    assert read(messages=[TELLING], conversation_id=conversation).messages[0].tool_call_id == "call_1"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
        ({"tools": [TOOL, TOOL]}, "tools"),
        ({"tools": [TOOL], "tool_choice": SECRET}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "other"}}}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"response_format": {"type": SECRET}}, "response_format"),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format.json_schema.name"),
        (
            {"tools": [{**TOOL, "function": {"name": "x", "parameters": {"a": "b" * 70_000}}}]},
            "tools[0].function.parameters",
        ),
        ({"n": 9}, "n"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logit_bias": {"x": 1}}, "logit_bias.x"),
        ({"logit_bias": {"1": 101}}, "logit_bias.1"),
        ({"messages": [ASKING, TELLING]}, "messages[1].tool_call_id"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"messages": [{**ASKING, "tool_calls": [CALL]}]}, "messages[0].tool_calls"),
        ({"messages": [{**ASKING, "tool_call_id": "x"}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "assistant"}]}, "messages[0].content"),
        ({"metadata": {"a": "b"}}, "metadata"),
        ({"store": True, "metadata": {"a" * 65: "b"}}, "metadata." + "a" * 65),
        ({"store": True, "metadata": {str(i): "b" for i in range(17)}}, "metadata"),
        ({"parent_id": "msg_1"}, "parent_id"),
    ],
)
def test_what_makes_no_sense_is_named(fields: dict[str, Any], param: str) -> None:
    refusal = refused(**fields)
    assert (refusal.status, (refusal.error.param or "").removesuffix(".[key]")) == (400, param)


def test_what_a_stored_completion_shows_again() -> None:
    shown = read(store=True, metadata={"a": "b"}, temperature=0.5, tools=[TOOL]).shown
    assert shown is not None
    assert json.loads(shown.text) == {
        "metadata": {"a": "b"},
        "temperature": 0.5,
        "tools": [{"type": "function", "function": FUNCTION}],
    }
    assert read(temperature=0.5).shown is None
