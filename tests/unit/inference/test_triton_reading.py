"""What a Triton generation's responses mean, one after another; and several generations as one."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import pytest

from consumers.inference import triton_requests
from consumers.inference.chat_template import Template
from consumers.inference.side_by_side import side_by_side
from consumers.inference.triton_reading import TritonReading
from schemas.content import Content
from schemas.errors import Retryable
from schemas.events import InferenceRequested
from schemas.generation import FunctionTool, Generation, ResponseFormat, Sampling, ToolChoice
from schemas.ports import Generated
from tests.unit.inference.inference_fakes import make_request

TOOLS = (FunctionTool(name="f", parameters=Content("{}")),)
CALL = '<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call>'


def asking(stop: tuple[str, ...] = (), max_tokens: int = 100, **generation: Any) -> InferenceRequested:
    request = make_request(sampling=Sampling(stop=stop), max_tokens=max_tokens)
    turn = request.turn.model_copy(update={"generation": Generation.model_validate(generation)})
    return request.model_copy(update={"turn": turn})


def read(request: InferenceRequested, *texts: str, template: Template = Template.CHATML) -> list[Generated]:
    reading = TritonReading(request, "", template, 0)
    pieces = []
    for text in texts:
        pieces.append(reading.take(text, -0.5))
        if reading.over:
            break
    return [*pieces, reading.end()]


def text_of(pieces: list[Generated]) -> str:
    return "".join(piece.text for piece in pieces)


def arguments_of(pieces: list[Generated]) -> str:
    return "".join(call.arguments.text for piece in pieces for call in piece.tool_calls if call.arguments)


def test_text_is_passed_on_token_by_token() -> None:
    pieces = read(asking(), "a", "b")
    assert [(piece.text, piece.tokens, piece.finish_reason) for piece in pieces] == [
        ("a", 1, None),
        ("b", 1, None),
        ("", 0, "stop"),
    ]


def test_the_budget_ends_by_length_unless_a_stop_word_did() -> None:
    assert read(asking(max_tokens=2), "a", "b")[-1].finish_reason == "length"
    assert read(asking(("b",), max_tokens=2), "a", "b")[-1].finish_reason == "stop"


def test_a_call_is_found_and_its_id_is_the_same_each_time() -> None:
    pieces, again = (read(asking(tools=TOOLS), "Well.", *CALL) for _ in range(2))
    assert (text_of(pieces), arguments_of(pieces)) == ("Well.", '{"x": 1}')
    assert pieces == again


def test_markup_is_text_where_no_tools_are_offered() -> None:
    assert text_of(read(asking(), CALL)) == CALL
    assert text_of(read(asking(tools=TOOLS, tool_choice=ToolChoice(mode="none")), CALL)) == CALL


def test_an_answer_goes_on_from_the_call_that_its_prompt_began() -> None:
    request = asking(tools=TOOLS, tool_choice=ToolChoice(function="f"))
    pieces = read(request, '{"x"', ": 1}", "}", "\n</tool_call>", " more")
    assert (text_of(pieces), arguments_of(pieces)) == ("", '{"x": 1}')
    assert len(pieces) == 4
    assert pieces[-1].finish_reason == "stop"


def test_one_call_is_enough_when_calls_are_not_to_be_parallel() -> None:
    pieces = read(asking(tools=TOOLS, parallel_tool_calls=False), CALL, CALL)
    assert arguments_of(pieces) == '{"x": 1}'


def test_llama_writes_calls_bare() -> None:
    pieces = read(asking(tools=TOOLS), '{"name": "f", "parameters": {"x": 1}}', template=Template.LLAMA3)
    assert (text_of(pieces), arguments_of(pieces)) == ("", '{"x": 1}')


def test_log_probabilities_wait_for_their_text_and_end_with_it() -> None:
    pieces = read(asking(("STOP",), logprobs=True, top_logprobs=1), "a", " ST", "OP")
    assert [[one.token.text for one in piece.logprobs] for piece in pieces] == [["a"], [], [], []]
    held = read(asking(("STOP",), logprobs=True), "a", " ST", "A")
    assert [[one.token.text for one in piece.logprobs] for piece in held] == [["a"], [], [" ST", "A"], []]


def test_markup_has_no_log_probabilities() -> None:
    pieces = read(asking(tools=TOOLS, logprobs=True), "Well.", *CALL)
    assert [one.token.text for piece in pieces for one in piece.logprobs] == ["Well."]


def tensors(request: InferenceRequested, choice: int = 0) -> dict[str, bytes]:
    message = triton_requests.infer_request("m", request, "", Template.CHATML, choice)
    return dict(zip((tensor.name for tensor in message.inputs), message.raw_input_contents, strict=True))


def test_a_grammar_is_asked_for_in_tensorrtllms_words() -> None:
    schema = ResponseFormat(kind="json_schema", json_schema=Content('{"a": 1}'))
    guided = tensors(asking(response_format=schema))
    assert guided["guided_decoding_guide_type"].endswith(b"json_schema")
    assert guided["guided_decoding_guide"].endswith(b'{"a": 1}')
    free = tensors(asking(response_format=ResponseFormat(kind="json_object")))
    assert free["guided_decoding_guide_type"].endswith(b"json")
    assert "guided_decoding_guide" not in free
    assert "guided_decoding_guide_type" not in tensors(asking(response_format=schema, tools=TOOLS))


def test_each_choice_has_a_seed_of_its_own() -> None:
    seeds = {tensors(asking(n=3), choice)["seed"] for choice in range(3)}
    assert len(seeds) == 3
    assert "seed" not in tensors(asking())


async def saying(*steps: str | Exception, closed: list[str] | None = None) -> AsyncGenerator[Generated, None]:
    try:
        for step in steps:
            await asyncio.sleep(0)
            if isinstance(step, Exception):
                raise step
            yield Generated(text=step, tokens=1)
    finally:
        if closed is not None:
            closed.append("closed")


async def test_answers_side_by_side_are_all_told() -> None:
    pieces = [piece.text async for piece in side_by_side([saying("a", "b"), saying("c"), saying()])]
    assert sorted(pieces) == ["a", "b", "c"]
    assert pieces.index("a") < pieces.index("b")


async def test_if_one_fails_the_others_are_closed() -> None:
    closed: list[str] = []
    answers = [saying("a", Retryable("gone"), closed=closed), saying(*"bcdefgh", closed=closed)]
    with pytest.raises(Retryable):
        [piece async for piece in side_by_side(answers)]
    assert len(closed) == 2


async def test_whoever_stops_listening_closes_them_all() -> None:
    closed: list[str] = []
    async with aclosing(side_by_side([saying(*"abc", closed=closed), saying(*"def", closed=closed)])) as pieces:
        await anext(pieces)
    assert len(closed) == 2
