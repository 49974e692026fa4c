"""A request for a response: every parameter judged by name, items as messages, and what is shown again."""

import json
from dataclasses import replace
from typing import Any, get_type_hints

import pytest
from openai.types.responses import Response
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming

from producers.conversations.items import items_of
from producers.http.refused import RequestRefused
from producers.ingest.turn_request import TurnRequest
from producers.responses.parameters import HARMLESS_VALUES
from producers.responses.request import ResponseRequest, parse_request, turn_request
from schemas.content import Content
from schemas.errors import Refusal
from schemas.messages import Message, Role, ToolCall
from schemas.ports import StoredMessage

SECRET = "the-user-wrote-this"  # noqa: S105
TOOL = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": True}


def read(**fields: Any) -> TurnRequest:
    return turn_request(parse_request(json.dumps({"model": "m", "input": "Hi", **fields}).encode()))


def refused(**fields: Any) -> Refusal:
    with pytest.raises(RequestRefused) as caught:
        read(**fields)
    assert SECRET not in caught.value.refusal.model_dump_json()
    return caught.value.refusal


def test_every_parameter_of_openai_is_either_supported_or_refused_by_name() -> None:
    known = set(get_type_hints(ResponseCreateParamsNonStreaming)) | {"stream_options"}
    assert known == set(ResponseRequest.model_fields) | set(HARMLESS_VALUES)


@pytest.mark.parametrize("name", sorted(HARMLESS_VALUES))
def test_an_unsupported_parameter_is_refused_unless_it_means_nothing(name: str) -> None:
    refusal = refused(**{name: {"x": SECRET}})
    assert (refusal.error.code, refusal.error.param) == ("unsupported_parameter", name)
    for harmless in HARMLESS_VALUES[name]:
        read(**{name: harmless})


def test_a_response_is_stored_unless_the_client_says_no() -> None:
    assert read().stored
    assert not read(store=False).stored


def test_instructions_are_of_this_turn_alone() -> None:
    turn = read(instructions="Be brief.")
    assert turn.instructions is not None
    assert turn.instructions.text == "Be brief."
    assert [message.role for message in turn.messages] == [Role.USER]


def test_items_become_messages() -> None:
    items = [
        {"role": "developer", "content": "Rules"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "One"}]},
        {"type": "function_call", "call_id": "call_1", "name": "a", "arguments": "{}"},
        {"type": "function_call", "call_id": "call_2", "name": "b", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": "1"},
    ]
    messages = read(input=items).messages
    assert [message.role for message in messages] == [Role.DEVELOPER, Role.USER, Role.ASSISTANT, Role.TOOL]
    assert [call.id for call in messages[2].tool_calls] == ["call_1", "call_2"]
    assert messages[3].tool_call_id == "call_1"


def test_an_item_of_a_conversation_may_go_in_again() -> None:
    message = StoredMessage(
        7, "t", Message(role=Role.USER, content=Content("Hi"), name="ada"), complete=True, created_at_ms=1_000
    )
    call = ToolCall(id="call_1", name="weather", arguments=Content("{}"))
    calling = replace(message, message=Message(role=Role.ASSISTANT, content=Content("I look."), tool_calls=(call,)))
    told = replace(message, message=Message(role=Role.TOOL, content=Content("Rain"), tool_call_id="call_1"))
    items = [item for stored in (message, calling, told) for item in items_of(stored, 3)]
    again = read(input=items).messages
    assert again[0] == message.message
    assert [one.role for one in again] == [Role.USER, Role.ASSISTANT, Role.ASSISTANT, Role.TOOL]


def test_what_came_out_may_go_in_again() -> None:
    said = {
        "id": "msg_1",
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "Hi", "annotations": [], "logprobs": []}],
    }
    assert read(input=[said, {"role": "user", "content": "x"}]).messages[0].content.text == "Hi"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": []}, "input"),
        ({"input": 7}, "input"),
        ({"input": [{"type": "item_reference", "id": SECRET}]}, "input[0]"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": SECRET}]}]}, None),
        ({"conversation": "conv_1", "previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1", "store": False}, "store"),
        ({"background": True, "store": False}, "background"),
        ({"stream_options": {"include_obfuscation": False}}, "stream_options"),
        ({"tools": [{"type": "web_search"}]}, None),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "name": "other"}}, "tool_choice"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema"),
        ({"include": ["file_search_call.results"]}, "include[0]"),
    ],
)
def test_what_makes_no_sense_is_named(fields: dict[str, Any], param: str | None) -> None:
    refusal = refused(**fields)
    assert refusal.status == 400
    assert refusal.error.param is not None
    assert param in {None, refusal.error.param}


def test_the_object_shows_what_was_asked_and_openais_defaults() -> None:
    shown = read(tools=[TOOL], text={"format": {"type": "json_object"}}, conversation="conv_1", top_p=0.5).shown
    assert shown is not None
    whole = {
        "id": "resp_1",
        "created_at": 0,
        "model": "m",
        "object": "response",
        "output": [],
        **json.loads(shown.text),
    }
    response = Response.model_validate(whole)
    assert (response.temperature, response.top_p, response.parallel_tool_calls) == (1.0, 0.5, True)
    assert response.conversation is not None
    assert response.conversation.id == "conv_1"
    assert response.text is not None
    assert response.text.format is not None
    assert response.text.format.type == "json_object"
    assert response.tools[0].type == "function"
