"""One turn through the whole pipeline, as an unmodified OpenAI client sees it."""

import json

import httpx2
import openai
import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionMessageParam

from tests.support.full_stack import HEARTBEAT_SECONDS, MODEL, FullStack, StreamedTurn
from tests.support.ping_counter import PingCounter

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

ASK: list[ChatCompletionMessageParam] = [{"role": "user", "content": "What is an event log?"}]
ANSWER = (
    "This is the built-in demonstration model of Turnstream, not an AI."
    '\n\nYou wrote (5 words): "What is an event log?"'
    "\n\nPoint a model pool at a real engine, and this text becomes a real answer."
)


async def test_a_stream_is_role_text_finish_reason_and_usage(client: AsyncOpenAI) -> None:
    unhurried: ChatCompletionMessageParam = {"role": "user", "content": "[[demo gap_ms=20]] What is an event log?"}
    stream = await client.chat.completions.create(
        model=MODEL, messages=[unhurried], stream=True, stream_options={"include_usage": True}
    )
    turn = await StreamedTurn().read(stream)
    first, *texts, last, usage = turn.chunks
    assert (first.choices[0].delta.role, first.choices[0].delta.content) == ("assistant", "")
    assert len(texts) > 5
    assert all(chunk.choices[0].delta.content and not chunk.choices[0].finish_reason for chunk in texts)
    assert (last.choices[0].finish_reason, last.choices[0].delta.content) == ("stop", None)
    assert turn.text == ANSWER
    assert usage.choices == []
    assert usage.usage is not None
    assert usage.usage.total_tokens == usage.usage.prompt_tokens + usage.usage.completion_tokens
    assert usage.usage.completion_tokens > 20
    assert {chunk.object for chunk in turn.chunks} == {"chat.completion.chunk"}
    assert len({(chunk.id, chunk.created, chunk.model, chunk.system_fingerprint) for chunk in turn.chunks}) == 1
    assert first.model == MODEL


async def test_the_stream_on_the_wire_ends_with_done(turnstream: FullStack) -> None:
    body = {"model": MODEL, "messages": ASK, "stream": True}
    async with turnstream.wire() as wire:
        response = await wire.post("/chat/completions", json=body)
    frames = [line for line in response.text.split("\n\n") if line and not line.startswith(":")]
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert frames[-1] == "data: [DONE]"
    chunks = [json.loads(frame.removeprefix("data: ")) for frame in frames[:-1]]
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == ANSWER
    assert not [line for line in response.text.splitlines() if line and not line.startswith(("data: ", ": ping"))]


async def test_a_whole_answer_and_the_headers_of_a_turn(client: AsyncOpenAI) -> None:
    raw = await client.chat.completions.with_raw_response.create(model=MODEL, messages=ASK)
    completion = raw.parse()
    assert completion.object == "chat.completion"
    assert completion.choices[0].message.content == ANSWER
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage is not None
    assert completion.usage.completion_tokens > 20
    assert raw.headers["x-request-id"] == completion.id
    assert raw.headers["openai-version"] == "2020-10-01"
    assert raw.headers["openai-processing-ms"].isdigit()
    assert raw.headers["x-ratelimit-limit-requests"] == "10000"
    assert int(raw.headers["x-ratelimit-remaining-requests"]) < 10_000
    assert int(raw.headers["x-ratelimit-remaining-tokens"]) < 10_000_000
    assert raw.headers["x-ratelimit-reset-tokens"][-1] == "s"


def test_the_blocking_client_streams_as_well(turnstream: FullStack) -> None:
    with turnstream.blocking_client() as client:
        stream = client.chat.completions.create(model="turnstream-capable", messages=ASK, stream=True)
        turn = StreamedTurn(list(stream))
        completion = client.chat.completions.create(model=MODEL, messages=ASK, max_completion_tokens=3)
    assert (turn.text, turn.finish_reasons) == (ANSWER, ["stop"])
    assert completion.choices[0].finish_reason == "length"
    assert completion.usage is not None
    assert completion.usage.completion_tokens == 3


async def test_a_stop_word_ends_the_answer(client: AsyncOpenAI) -> None:
    completion = await client.chat.completions.create(model=MODEL, messages=ASK, stop=["You wrote"])
    assert completion.choices[0].message.content == ANSWER.partition("You wrote")[0]
    assert completion.choices[0].finish_reason == "stop"


async def test_models_are_listed_and_shown(client: AsyncOpenAI) -> None:
    assert [model.id async for model in client.models.list()] == ["turnstream-fast", "turnstream-capable"]
    shown = await client.models.retrieve(MODEL)
    assert (shown.id, shown.object, shown.owned_by) == (MODEL, "model", "turnstream")
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("gpt-4")


async def test_ten_minutes_of_heartbeats_do_not_disturb_the_client(turnstream: FullStack) -> None:
    # Ten minutes of silence are 60 heartbeats of 10 s; here a heartbeat is shorter, and their number the same.
    silence_ms = round(75 * HEARTBEAT_SECONDS * 1000)
    question: ChatCompletionMessageParam = {"role": "user", "content": f"[[demo first_ms={silence_ms} gap_ms=0]] Hi"}
    counter = PingCounter()
    async with turnstream.client().with_options(http_client=httpx2.AsyncClient(transport=counter)) as client:
        stream = await client.chat.completions.create(model=MODEL, messages=[question], stream=True)
        turn = await StreamedTurn().read(stream)
    assert counter.pings >= 60
    assert turn.finish_reasons == ["stop"]
    assert turn.text.endswith("becomes a real answer.")
