"""What every backend must do, on a real Triton with the demonstration model and on the OpenAI-compatible upstream."""

import asyncio
from contextlib import aclosing

import pytest

from consumers.inference.openai_backend import OpenAiBackend
from consumers.inference.pool import BackendKind, PoolSettings
from consumers.inference.triton_backend import TritonBackend
from schemas.content import Content
from schemas.errors import Malformed, Retryable
from schemas.events import InferenceRequested
from schemas.generation import Sampling
from schemas.messages import Message, Role
from schemas.ports import Generated
from schemas.tokens import Finished
from tests.integration.inference.triton_servers import free_port
from tests.unit.inference.inference_fakes import World, make_request, receive

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

FAST = "[[demo first_ms=1 gap_ms=1 {}]]"
Backend = TritonBackend | OpenAiBackend


async def answer(backend: Backend, request: InferenceRequested, prefix: str = "") -> list[Generated]:
    return [piece async for piece in backend.generate(request, prefix)]


def text(pieces: list[Generated]) -> str:
    return "".join(piece.text for piece in pieces)


async def test_an_answer_streams_as_it_is_generated_and_says_why_it_ended(backend: Backend) -> None:
    pieces = await answer(backend, make_request(text=FAST.format("tokens=30")))
    assert text(pieces).endswith(" 28 29 30")
    assert 1 < len([piece for piece in pieces if piece.text]) <= 30
    assert sum(piece.tokens for piece in pieces) == 30
    assert [piece.finish_reason for piece in pieces][-2:] == [None, "stop"]


async def test_history_reaches_the_model(backend: Backend) -> None:
    history = (Message(role=Role.USER, content=Content("My name is Ada.")),)
    pieces = await answer(backend, make_request(text=FAST.format(""), messages=history))
    assert "My name is Ada." in text(pieces)


async def test_an_answer_goes_on_after_its_prefix(backend: Backend) -> None:
    request = make_request(text=f"Ada <|im_end|> {FAST.format('tokens=30')}")
    whole = await answer(backend, request)
    prefix = text(whole[: len(whole) // 2])
    rest = await answer(backend, request, prefix)
    assert prefix + text(rest) == text(whole)


async def test_the_token_limit_ends_an_answer_by_length(backend: Backend) -> None:
    pieces = await answer(backend, make_request(text=FAST.format("tokens=30"), max_tokens=7))
    assert sum(piece.tokens for piece in pieces) == 7
    assert pieces[-1].finish_reason == "length"


async def test_a_stop_word_ends_an_answer_unseen(backend: Backend) -> None:
    request = make_request(text=FAST.format("tokens=40"), sampling=Sampling(stop=(" 35",)))
    pieces = await answer(backend, request)
    assert text(pieces).endswith(" 34")
    assert pieces[-1].finish_reason == "stop"


async def test_a_closed_answer_leaves_the_server_usable(backend: Backend) -> None:
    for _ in range(20):
        async with aclosing(
            backend.generate(make_request(text="[[demo first_ms=1 gap_ms=20 tokens=999]]"), "")
        ) as pieces:
            assert (await anext(pieces)).text
    assert text(await answer(backend, make_request(text=FAST.format("tokens=30")))).endswith(" 30")


async def test_many_answers_at_once_do_not_mix(backend: Backend) -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(answer(backend, make_request(text=f"number-{number} {FAST.format('')}")))
            for number in range(30)
        ]
    for number, task in enumerate(tasks):
        assert f"number-{number} " in text(task.result()) or f'number-{number}"' in text(task.result())


@pytest.mark.parametrize(("kind", "error"), [("unavailable", Retryable), ("invalid", Malformed)])
async def test_an_error_is_told_apart_before_and_in_an_answer(
    backend: Backend, kind: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await answer(backend, make_request(text=FAST.format(f"error={kind}")))
    pieces = backend.generate(make_request(text=FAST.format(f"error={kind} error_after=5")), "")
    tokens = 0
    while tokens < 5:
        tokens += (await anext(pieces)).tokens
    assert tokens == 5
    with pytest.raises(error):
        await anext(pieces)


@pytest.mark.parametrize("kind", list(BackendKind))
async def test_a_server_that_is_not_there_is_retryable_and_not_ready(kind: BackendKind) -> None:
    address = f"127.0.0.1:{free_port()}"
    if kind is BackendKind.TRITON:
        backend: Backend = TritonBackend(PoolSettings(url=address))
    else:
        backend = OpenAiBackend(PoolSettings(backend=kind, url=f"http://{address}/v1"))
    assert not await backend.ready()
    with pytest.raises(Retryable):
        await answer(backend, make_request())
    await backend.close()


async def test_a_silent_server_is_retryable(servers: dict[str, PoolSettings]) -> None:
    settings = servers["openai"].model_copy(update={"silence_s_max": 0.2})
    backend = OpenAiBackend(settings)
    with pytest.raises(Retryable):
        await answer(backend, make_request(text="[[demo first_ms=5000]]"))
    await backend.close()


async def test_an_upstream_that_cannot_continue_says_so(servers: dict[str, PoolSettings]) -> None:
    backend = OpenAiBackend(servers["openai"].model_copy(update={"continues_prefix": False}))
    with pytest.raises(Malformed):
        await answer(backend, make_request(), "begun")
    await backend.close()


async def test_a_turn_survives_a_server_that_breaks_off(backend: Backend) -> None:
    world = World()
    text_of_turn = FAST.format("tokens=30 error=unavailable error_after=20")
    await world.stage(backend=backend)(receive(make_request(text=text_of_turn)))
    answered = world.log.answer()
    assert answered.text == text(await answer(backend, make_request(text=FAST.format("tokens=30"))))
    assert isinstance(answered.state.terminal, Finished)
    [bill] = world.log.bills()
    assert bill.usage.completion_tokens == 30


async def test_usage_of_an_openai_upstream_is_its_own_count(servers: dict[str, PoolSettings]) -> None:
    backend = OpenAiBackend(servers["openai"])
    pieces = await answer(backend, make_request(text=FAST.format("tokens=12")))
    assert pieces[-1].completion_tokens == 12
    assert pieces[-1].prompt_tokens is not None
    await backend.close()
