"""What an OpenAI-compatible upstream is asked, and what its chunks mean, beyond plain text."""

import json
from typing import Any

import pytest

from consumers.inference.failures import NotServed
from consumers.inference.openai_body import request_body
from consumers.inference.openai_chunks import Ending, read_chunk
from schemas.content import Content
from schemas.errors import Retryable
from schemas.generation import FunctionTool, Generation, ResponseFormat, Sampling, ToolChoice
from schemas.messages import Message, Role, ToolCall
from tests.unit.inference.inference_fakes import make_request

SCHEMA = {"type": "object", "properties": {"x": {"type": "integer"}}}
TOOL = FunctionTool(name="f", description=Content("d"), parameters=Content(json.dumps(SCHEMA)), strict=True)


def body_of(generation: Generation, **changes: Any) -> dict[str, Any]:
    request = make_request(**changes)
    turn = request.turn.model_copy(update={"generation": generation})
    return request_body(request.model_copy(update={"turn": turn, "served_model": "theirs"}), "", None)


def test_everything_that_was_asked_reaches_the_upstream() -> None:
    generation = Generation(
        n=3,
        logprobs=True,
        top_logprobs=2,
        tools=(TOOL,),
        tool_choice=ToolChoice(mode="required"),
        parallel_tool_calls=False,
        response_format=ResponseFormat(kind="json_schema", name="s", json_schema=Content(json.dumps(SCHEMA))),
        reasoning_effort="low",
        verbosity="high",
    )
    body = body_of(generation, sampling=Sampling(logit_bias={"7": -100}, seed=4))
    assert body["model"] == "theirs"
    assert (body["n"], body["logprobs"], body["top_logprobs"], body["seed"]) == (3, True, 2, 4)
    assert body["logit_bias"] == {"7": -100}
    function = {"name": "f", "description": "d", "parameters": SCHEMA, "strict": True}
    assert body["tools"] == [{"type": "function", "function": function}]
    assert (body["tool_choice"], body["parallel_tool_calls"]) == ("required", False)
    assert body["response_format"] == {"type": "json_schema", "json_schema": {"name": "s", "schema": SCHEMA}}
    assert (body["reasoning_effort"], body["verbosity"]) == ("low", "high")


def test_what_was_not_asked_is_not_sent() -> None:
    assert set(body_of(Generation())) == {"model", "messages", "max_tokens", "stream", "stream_options"}


@pytest.mark.parametrize(
    ("choice", "names", "sent"),
    [
        (ToolChoice(mode="none"), ["f", "g"], "none"),
        (ToolChoice(function="g"), ["g"], {"type": "function", "function": {"name": "g"}}),
        (ToolChoice(allowed=("f",)), ["f"], "auto"),
    ],
)
def test_a_choice_of_tools_is_said_as_all_upstreams_understand_it(
    choice: ToolChoice, names: list[str], sent: object
) -> None:
    body = body_of(Generation(tools=(TOOL, FunctionTool(name="g")), tool_choice=choice))
    assert [tool["function"]["name"] for tool in body["tools"]] == names
    assert body["tool_choice"] == sent


def test_calls_and_their_answers_are_told_again() -> None:
    messages = (
        Message(
            role=Role.ASSISTANT,
            content=Content(""),
            tool_calls=(ToolCall(id="c", name="f", arguments=Content("{}")),),
        ),
        Message(role=Role.TOOL, content=Content("5"), tool_call_id="c"),
    )
    first, second, _ = body_of(Generation(), messages=messages)["messages"]
    assert first["content"] is None
    assert first["tool_calls"] == [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    assert second == {"role": "tool", "content": "5", "tool_call_id": "c"}


def chunk(*choices: dict[str, Any], **rest: Any) -> str:
    return json.dumps({"choices": choices, **rest})


def test_choices_are_told_apart_and_end_one_by_one() -> None:
    end = Ending(2)
    pieces, end = read_chunk(
        chunk({"index": 1, "delta": {"content": "b"}}, {"index": 0, "delta": {"content": "a"}}), end
    )
    assert [(piece.choice, piece.text) for piece in pieces] == [(1, "b"), (0, "a")]
    _, end = read_chunk(chunk({"index": 1, "delta": {}, "finish_reason": "length"}), end)
    with pytest.raises(Retryable):
        list(end.pieces())
    _, end = read_chunk(chunk({"index": 0, "delta": {}, "finish_reason": "stop"}), end)
    _, end = read_chunk(chunk(usage={"prompt_tokens": 3, "completion_tokens": 9}), end)
    ends = [(piece.choice, piece.finish_reason, piece.completion_tokens) for piece in end.pieces()]
    assert ends == [(0, "stop", None), (1, "length", 9)]


def test_a_choice_that_nobody_asked_for_is_passed_over() -> None:
    assert read_chunk(chunk({"index": 1, "delta": {"content": "b"}}), Ending()) == ((), Ending())


def test_calls_come_in_pieces() -> None:
    first = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}
    second = {"index": 0, "function": {"arguments": '{"x"'}}
    [named], end = read_chunk(chunk({"index": 0, "delta": {"tool_calls": [first]}}), Ending())
    [more], _ = read_chunk(chunk({"index": 0, "delta": {"tool_calls": [second]}}), end)
    assert (named.tool_calls[0].id, named.tool_calls[0].name) == ("c", "f")
    assert more.tool_calls[0].id is None
    assert more.tool_calls[0].arguments == Content('{"x"')


def test_log_probabilities_are_read_with_their_alternatives() -> None:
    tops = [{"token": "hi", "logprob": -0.5}, {"token": "ho", "logprob": float("-inf")}]
    content = [{"token": "hi", "logprob": -0.5, "bytes": None, "top_logprobs": tops}]
    [piece], _ = read_chunk(chunk({"index": 0, "delta": {"content": "hi"}, "logprobs": {"content": content}}), Ending())
    [one] = piece.logprobs
    assert (one.token.text, one.logprob) == ("hi", -0.5)
    assert [(top.token.text, top.logprob) for top in one.top] == [("hi", -0.5), ("ho", -9999.0)]


@pytest.mark.parametrize("odd", [[None], {"x": 1}, [{"function": None}], [{"index": -1}], [{"index": 10**9}]])
def test_odd_calls_do_no_harm(odd: Any) -> None:
    read_chunk(chunk({"index": 0, "delta": {"tool_calls": odd}}), Ending())


def test_a_model_that_the_upstream_does_not_know_may_be_served_elsewhere() -> None:
    with pytest.raises(NotServed):
        read_chunk(chunk(error={"type": "not_found_error"}), Ending())
