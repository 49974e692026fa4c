"""What an OpenAI-compatible upstream is asked, and what its chunks mean, beyond plain text."""

import json
from typing import Any

import pytest

from consumers.inference.failures import NotServed
from consumers.inference.openai_body import request_body
from consumers.inference.openai_chunks import DONE, ChunkReading
from schemas.content import Content
from schemas.errors import Retryable
from schemas.generation import FunctionTool, Generation, ResponseFormat, Sampling, ToolChoice
from schemas.messages import Message, Role, ToolCall
from schemas.ports import Generated
from tests.unit.inference.inference_fakes import make_request

BYTES_MAX = 1_000_000
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


def event(data: str) -> bytes:
    return f"data: {data}\n\n".encode()


def said(*chunks: str, choices: int = 1) -> list[Generated]:
    """The steps after ``chunks``, all read at once."""
    reading = ChunkReading(choices, BYTES_MAX)
    for one in chunks:
        reading.feed(event(one))
    return reading.take()


def test_choices_are_told_apart_and_end_one_by_one() -> None:
    reading = ChunkReading(2, BYTES_MAX)
    reading.feed(event(chunk({"index": 1, "delta": {"content": "b"}}, {"index": 0, "delta": {"content": "a"}})))
    assert [(step.choice, step.text) for step in reading.take()] == [(0, "a"), (1, "b")]
    reading.feed(event(chunk({"index": 1, "delta": {}, "finish_reason": "length"})))
    with pytest.raises(Retryable):
        reading.end()
    reading.feed(event(chunk({"index": 0, "delta": {}, "finish_reason": "stop"})))
    reading.feed(event(chunk(usage={"prompt_tokens": 3, "completion_tokens": 9})))
    ends = [(step.choice, step.finish_reason, step.completion_tokens) for step in reading.end()]
    assert ends == [(0, "stop", None), (1, "length", 9)]


def test_what_came_at_once_is_one_step_of_each_choice() -> None:
    words = [chunk({"index": index % 2, "delta": {"content": f" {index}"}}) for index in range(6)]
    assert [(step.text, step.tokens) for step in said(*words, choices=2)] == [(" 0 2 4", 3), (" 1 3 5", 3)]


def test_what_was_told_is_not_told_again() -> None:
    reading = ChunkReading(1, BYTES_MAX)
    reading.feed(event(chunk({"index": 0, "delta": {"content": "a"}})))
    assert [step.text for step in reading.take()] == ["a"]
    assert reading.take() == []


def test_a_choice_that_nobody_asked_for_is_passed_over() -> None:
    assert said(chunk({"index": 1, "delta": {"content": "b"}})) == []


def test_nothing_counts_after_the_end() -> None:
    assert said(DONE, chunk({"index": 0, "delta": {"content": "b"}})) == []


def test_what_came_before_an_error_is_told_first() -> None:
    reading = ChunkReading(1, BYTES_MAX)
    for data in (chunk({"index": 0, "delta": {"content": "a"}}), chunk(error={"type": "server_error"})):
        reading.feed(event(data))
    assert reading.over
    assert [step.text for step in reading.take()] == ["a"]
    with pytest.raises(Retryable):
        reading.end()


def test_calls_come_in_pieces() -> None:
    first = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}
    second = {"index": 0, "function": {"arguments": '{"x"'}}
    [step] = said(*(chunk({"index": 0, "delta": {"tool_calls": [call]}}) for call in (first, second)))
    named, more = step.tool_calls
    assert (named.id, named.name) == ("c", "f")
    assert more.id is None
    assert more.arguments == Content('{"x"')


def test_log_probabilities_are_read_with_their_alternatives() -> None:
    tops = [{"token": "hi", "logprob": -0.5}, {"token": "ho", "logprob": float("-inf")}]
    content = [{"token": "hi", "logprob": -0.5, "bytes": None, "top_logprobs": tops}]
    [step] = said(chunk({"index": 0, "delta": {"content": "hi"}, "logprobs": {"content": content}}))
    [one] = step.logprobs
    assert (one.token.text, one.logprob) == ("hi", -0.5)
    assert [(top.token.text, top.logprob) for top in one.top] == [("hi", -0.5), ("ho", -9999.0)]


@pytest.mark.parametrize("odd", [[None], {"x": 1}, [{"function": None}], [{"index": -1}], [{"index": 10**9}]])
def test_odd_calls_do_no_harm(odd: Any) -> None:
    said(chunk({"index": 0, "delta": {"tool_calls": odd}}))


def test_a_model_that_the_upstream_does_not_know_may_be_served_elsewhere() -> None:
    reading = ChunkReading(1, BYTES_MAX)
    reading.feed(event(chunk(error={"type": "not_found_error"})))
    with pytest.raises(NotServed):
        reading.end()
