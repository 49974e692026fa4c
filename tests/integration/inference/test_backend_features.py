"""Tools, JSON, choices and log probabilities, on a real Triton and on the OpenAI-compatible upstream."""

import json
from typing import Any

import pytest

from consumers.inference.failures import ParameterUnsupported
from consumers.inference.openai_backend import OpenAiBackend
from consumers.inference.pool import PoolSettings
from consumers.inference.triton_backend import TritonBackend
from schemas.content import Content
from schemas.errors import Malformed
from schemas.events import FinishReason, InferenceRequested
from schemas.generation import FunctionTool, Generation, ResponseFormat, Sampling, ToolChoice
from schemas.messages import Message, Role, ToolCall
from schemas.tokens import Failed, Finished
from tests.unit.inference.inference_fakes import World, make_request, receive

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

Backend = TritonBackend | OpenAiBackend
INTEGER = {"type": "object", "properties": {"input": {"type": "integer"}}, "required": ["input"]}
MAGIC = FunctionTool(
    name="magic_function", description=Content("Applies magic."), parameters=Content(json.dumps(INTEGER))
)
QUICK = "[[demo first_ms=1 gap_ms=1]]"
ASKED = f"What is magic_function(3)? {QUICK}"
CALLED = ToolCall(id="call_1", name="magic_function", arguments=Content('{"input": 3}'))


def asking(text: str, *, messages: tuple[Message, ...] = (), **generation: Any) -> InferenceRequested:
    request = make_request(text=text, messages=messages)
    turn = request.turn.model_copy(update={"generation": Generation.model_validate(generation)})
    return request.model_copy(update={"turn": turn})


async def answered(backend: Backend, request: InferenceRequested) -> World:
    world = World()
    await world.stage(backend=backend)(receive(request))
    return world


def finished(world: World) -> Finished:
    terminal = world.log.answer().state.terminal
    assert isinstance(terminal, Finished)
    return terminal


async def test_a_tool_is_called_with_arguments_that_come_in_pieces(backend: Backend) -> None:
    world = await answered(backend, asking(ASKED, tools=(MAGIC,)))
    [call] = world.log.answer().choice(0).calls
    assert (call.name, json.loads(call.arguments)) == ("magic_function", {"input": 3})
    assert call.id.startswith("call_")
    assert world.log.answer().text == ""
    assert finished(world).finish_reason is FinishReason.TOOL_CALLS


@pytest.mark.parametrize("choice", [ToolChoice(mode="required"), ToolChoice(mode="auto", function="magic_function")])
async def test_a_tool_that_must_be_called_is(backend: Backend, choice: ToolChoice) -> None:
    world = await answered(backend, asking(f"Hello! {QUICK}", tools=(MAGIC,), tool_choice=choice))
    [call] = world.log.answer().choice(0).calls
    assert isinstance(json.loads(call.arguments)["input"], int)


async def test_the_answer_of_a_tool_reaches_the_model(backend: Backend) -> None:
    messages = (
        Message(role=Role.USER, content=Content("What is magic_function(3)?")),
        Message(role=Role.ASSISTANT, content=Content(""), tool_calls=(CALLED,)),
    )
    request = asking(ASKED, messages=messages, tools=(MAGIC,))
    tool = Message(role=Role.TOOL, content=Content("the magic number 5"), tool_call_id="call_1")
    prompt = request.prompt.model_copy(update={"messages": (*messages, tool)})
    world = await answered(backend, request.model_copy(update={"prompt": prompt}))
    assert "the magic number 5" in world.log.answer().text
    assert world.log.answer().choice(0).calls == ()


async def test_plain_questions_are_plain_answers_in_spite_of_tools(backend: Backend) -> None:
    with_tools = await answered(backend, asking(f"Hello! {QUICK}", tools=(MAGIC,)))
    without = await answered(backend, asking(f"Hello! {QUICK}"))
    assert with_tools.log.answer().text == without.log.answer().text
    assert with_tools.log.answer().choice(0).calls == ()


@pytest.mark.parametrize("kind", ["json_object", "json_schema"])
async def test_the_answer_is_json_of_its_schema(backend: Backend, kind: str) -> None:
    form = ResponseFormat.model_validate({"kind": kind, "name": "s", "json_schema": json.dumps(INTEGER)})
    world = await answered(backend, asking(f"Give `input` the value 7. {QUICK}", response_format=form))
    value = json.loads(world.log.answer().text)
    assert value == {"input": 7} if kind == "json_schema" else "input" in value
    assert finished(world).finish_reason is FinishReason.STOP


async def test_choices_come_side_by_side_and_are_counted_together(backend: Backend) -> None:
    world = await answered(backend, asking("[[demo first_ms=1 gap_ms=1 tokens=20]]", n=3))
    answer = world.log.answer()
    assert len({choice.text for choice in answer.choices}) == 3
    assert answer.choices[0].text.endswith(" 20")
    assert finished(world).choice_reasons == (FinishReason.STOP,) * 3
    assert world.log.bills()[0].usage.completion_tokens == 60


async def test_every_token_has_a_log_probability(backend: Backend) -> None:
    world = await answered(backend, asking(f"hi {QUICK}", logprobs=True, top_logprobs=1))
    choice = world.log.answer().choice(0)
    assert "".join(one.token.text for one in choice.logprobs) == choice.text
    assert all(one.logprob < 0 for one in choice.logprobs)
    assert all([top.token for top in one.top] == [one.token] for one in choice.logprobs)


async def test_an_answer_with_log_probabilities_survives_a_server_that_breaks_off(backend: Backend) -> None:
    directive = "[[demo first_ms=1 gap_ms=1 tokens=30 error=unavailable error_after=20]]"
    world = await answered(backend, asking(directive, logprobs=True))
    choice = world.log.answer().choice(0)
    assert finished(world).finish_reason is FinishReason.STOP
    assert choice.text.endswith(" 30")
    assert "".join(one.token.text for one in choice.logprobs) == choice.text


async def test_several_choices_do_not_survive_a_server_that_breaks_off(backend: Backend) -> None:
    directive = "[[demo first_ms=1 gap_ms=1 tokens=30 error=unavailable error_after=20]]"
    world = await answered(backend, asking(directive, n=2))
    terminal = world.log.answer().state.terminal
    assert isinstance(terminal, Failed)
    assert terminal.refusal.error.code == "continuation_unsupported"


async def test_triton_refuses_by_name_what_its_tensors_cannot_say(servers: dict[str, PoolSettings]) -> None:
    if "triton" not in servers:
        pytest.skip("this machine cannot run Triton")
    backend = TritonBackend(servers["triton"])
    request = make_request(sampling=Sampling(logit_bias={"7": 1}))
    with pytest.raises(ParameterUnsupported):
        [piece async for piece in backend.generate(request, "")]
    world = await answered(backend, request)
    terminal = world.log.answer().state.terminal
    assert isinstance(terminal, Failed)
    assert (terminal.refusal.status, terminal.refusal.error.param) == (400, "logit_bias")
    await backend.close()


async def test_a_guide_that_is_no_json_is_a_rejection(servers: dict[str, PoolSettings]) -> None:
    if "triton" not in servers:
        pytest.skip("this machine cannot run Triton")
    backend = TritonBackend(servers["triton"])
    form = ResponseFormat(kind="json_schema", json_schema=Content("{"))
    with pytest.raises(Malformed):
        [piece async for piece in backend.generate(asking("hi", response_format=form), "")]
    await backend.close()
