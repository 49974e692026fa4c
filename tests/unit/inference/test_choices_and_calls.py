"""Several choices, tool calls and grammars through the whole stage, with and without a predecessor."""

from collections.abc import AsyncGenerator, Sequence

import pytest

from schemas.content import Content
from schemas.errors import Retryable
from schemas.events import FinishReason, InferenceRequested
from schemas.generation import FunctionTool, Generation, ResponseFormat, TokenLogprob, ToolCallDelta
from schemas.ports import Generated, Pile
from schemas.tokens import AttemptStarted, Delta, Failed, Finished
from tests.unit.inference.inference_fakes import TURN_ID, FakePolicy, World, make_request, receive


class Scripted:
    """A backend that says exactly this, in each generation anew; an exception is raised in its place."""

    def __init__(self, *scripts: Sequence[Generated | Exception]) -> None:
        self._scripts = scripts
        self.prefixes: list[str] = []

    async def generate(
        self, request: InferenceRequested, prefix: str, _pile: Pile | None = None
    ) -> AsyncGenerator[Generated, None]:
        assert request.prompt.max_tokens > 0
        script = self._scripts[min(len(self.prefixes), len(self._scripts) - 1)]
        self.prefixes.append(prefix)
        for step in script:
            if isinstance(step, Exception):
                raise step
            yield step

    async def ready(self) -> bool:
        return True

    async def close(self) -> None: ...


def asking(**generation: object) -> InferenceRequested:
    request = make_request()
    turn = request.turn.model_copy(update={"generation": Generation.model_validate(generation)})
    return request.model_copy(update={"turn": turn})


def word(text: str, choice: int = 0) -> Generated:
    return Generated(text=text, tokens=1, choice=choice)


def end(choice: int = 0, reason: str = "stop") -> Generated:
    return Generated(text="", tokens=0, finish_reason=reason, choice=choice)


def call(arguments: str, name: str | None = None) -> Generated:
    piece = ToolCallDelta(index=0, id=name and f"call_{name}", name=name, arguments=Content(arguments))
    return Generated(text="", tokens=1, tool_calls=(piece,))


TOOLS = {"tools": (FunctionTool(name="f"),)}
JSON = {"response_format": ResponseFormat(kind="json_object")}


def finished(world: World) -> Finished:
    terminal = world.log.answer().state.terminal
    assert isinstance(terminal, Finished)
    return terminal


def begun_by_another(world: World, **delta: object) -> None:
    """A predecessor fenced, and left a delta on the log."""
    world.log.write_token(AttemptStarted(turn_id=TURN_ID, attempt=1, owner="dead"))
    fields = {"content": "so far", "tokens": 2} | delta
    world.log.write_token(Delta.model_validate({"turn_id": TURN_ID, "attempt": 1, "owner": "dead", "seq": 0} | fields))


async def test_two_choices_are_one_turn_with_one_bill() -> None:
    backend = Scripted([word("a"), word("b", 1), word("c", 1), end(1, "length"), word("d"), end()])
    world = World()
    await world.stage(backend=backend)(receive(asking(n=2)))
    assert [choice.text for choice in world.log.answer().choices] == ["ad", "bc"]
    assert finished(world).choice_reasons == (FinishReason.STOP, FinishReason.LENGTH)
    [bill] = world.log.bills()
    assert (bill.usage.completion_tokens, bill.usage.prompt_tokens) == (4, 7)


async def test_a_tool_call_is_told_in_pieces_and_ends_the_answer_for_it() -> None:
    backend = Scripted([word("Wait."), call('{"x"', "f"), call(": 3}"), end()])
    world = World()
    await world.stage(backend=backend)(receive(asking(**TOOLS)))
    answer = world.log.answer()
    assert answer.text == "Wait."
    assert [(one.id, one.name, one.arguments) for one in answer.choices[0].calls] == [("call_f", "f", '{"x": 3}')]
    assert finished(world).finish_reason is FinishReason.TOOL_CALLS
    assert finished(world).choice_reasons == ()
    assert world.log.bills()[0].finish_reason is FinishReason.TOOL_CALLS


async def test_log_probabilities_come_with_their_tokens() -> None:
    logprob = TokenLogprob(token=Content("hi"), logprob=-0.1)
    backend = Scripted([Generated(text="hi", tokens=1, logprobs=(logprob,)), end()])
    world = World()
    await world.stage(backend=backend)(receive(asking(logprobs=True)))
    assert world.log.answer().choices[0].logprobs == (logprob,)


async def test_forbidden_arguments_never_reach_the_log() -> None:
    backend = Scripted([call('{"x": "b', "f"), call('om\\u0062"}'), end()])
    world = World(policy=FakePolicy("bomb"))
    await world.stage(backend=backend)(receive(asking(**TOOLS)))
    assert finished(world).finish_reason is FinishReason.CONTENT_FILTER
    assert all("om" not in one.arguments for one in world.log.answer().choice(0).calls)


@pytest.mark.parametrize("generation", [{"n": 2}, JSON, TOOLS, {"logprobs": True}])
async def test_what_nobody_has_seen_is_begun_anew(generation: dict[str, object]) -> None:
    count = int(str(generation.get("n", 1)))
    whole = [*(word("whole", choice) for choice in range(count)), *(end(choice) for choice in range(count))]
    backend = Scripted([Retryable("gone")], whole)
    world = World()
    await world.stage(backend=backend)(receive(asking(**generation)))
    assert backend.prefixes == ["", ""]
    assert [choice.text for choice in world.log.answer().choices] == ["whole"] * count


@pytest.mark.parametrize(
    ("generation", "delta"),
    [
        ({"n": 2}, {}),
        ({"n": 2}, {"choice": 1}),
        (JSON, {}),
        ({"logprobs": True}, {}),
        (TOOLS, {"tool_calls": [{"index": 0, "id": "c", "name": "f", "arguments": '{"x'}]}),
    ],
)
async def test_what_cannot_be_taken_up_ends_with_a_clear_error(
    generation: dict[str, object], delta: dict[str, object]
) -> None:
    world = World()
    begun_by_another(world, **delta)
    await world.stage(backend=Scripted([word("z"), end()]))(receive(asking(**generation)))
    terminal = world.log.answer().state.terminal
    assert isinstance(terminal, Failed)
    assert (terminal.refusal.status, terminal.refusal.error.code) == (502, "continuation_unsupported")
    assert world.log.answer().choice(0).text in {"so far", ""}


async def test_text_before_a_tool_call_is_taken_up() -> None:
    world = World()
    begun_by_another(world)
    backend = Scripted([call("{}", "f"), end()])
    await world.stage(backend=backend)(receive(asking(**TOOLS)))
    assert backend.prefixes[-1] == "so far"
    assert finished(world).finish_reason is FinishReason.TOOL_CALLS
    assert world.log.answer().text == "so far"
