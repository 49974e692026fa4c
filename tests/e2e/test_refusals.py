"""Every way to be refused, as the SDK's exception classes and as raw statuses: decided before the first byte."""

import asyncio
import json
from typing import Any

import httpx2
import openai
import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletion, ChatCompletionMessageParam

from producers.http.api_keys import KEY_ENTROPY_BYTES, make_api_key
from tests.support.full_stack import MODEL, REQUESTS_OF_TINY, FullStack, StreamedTurn

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

ASK: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hello?"}]
UNKNOWN_KEY = make_api_key(bytes(KEY_ENTROPY_BYTES)).text


def body(**fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": ASK, **fields}


@pytest.mark.parametrize("key", ["sk-nonsense", UNKNOWN_KEY[:-1] + "7", UNKNOWN_KEY])
@pytest.mark.parametrize("stream", [True, False])
async def test_a_key_that_is_none_is_401(turnstream: FullStack, key: str, stream: bool) -> None:  # noqa: FBT001
    async with turnstream.client(key) as client:
        with pytest.raises(openai.AuthenticationError) as caught:
            await client.chat.completions.create(model=MODEL, messages=ASK, stream=stream)
        with pytest.raises(openai.AuthenticationError):
            await client.models.list()
    assert (caught.value.status_code, caught.value.code) == (401, "invalid_api_key")
    assert caught.value.response.headers["x-request-id"]
    assert key not in str(caught.value)


async def test_no_key_is_401(turnstream: FullStack) -> None:
    async with httpx2.AsyncClient(base_url=turnstream.base_url) as nobody:
        response = await nobody.post("/chat/completions", json=body())
    assert response.status_code == 401
    assert response.json()["error"]["code"] == "invalid_api_key"


@pytest.mark.parametrize("model", ["gpt-4", "turnstream-capable"])
async def test_a_model_that_is_unknown_or_not_in_the_plan_is_404(turnstream: FullStack, model: str) -> None:
    async with turnstream.client(await turnstream.new_key("free", "frida")) as client:
        with pytest.raises(openai.NotFoundError) as caught:
            await client.chat.completions.create(model=model, messages=ASK)
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"messages": []}, "invalid_value", "messages"),
        ({"messages": "Hello?"}, "invalid_type", "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "invalid_value", "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "missing_required_parameter", "messages[0].content"),
        ({"temperature": "hot"}, "invalid_type", "temperature"),
        ({"temperature": 9}, "invalid_value", "temperature"),
        ({"max_tokens": 0}, "invalid_value", "max_tokens"),
        ({"n": 9}, "invalid_value", "n"),
        ({"logit_bias": {"50256": -100}}, "unsupported_parameter", "logit_bias"),
        ({"tools": [{"type": "function"}]}, "missing_required_parameter", "tools[0].function"),
        ({"response_format": {"type": "xml"}}, "invalid_type", "response_format"),
        ({"audio": {"voice": "alloy"}}, "unsupported_parameter", "audio"),
        ({"magic": 1}, "unknown_parameter", "magic"),
        ({"stream_options": {"include_usage": True}}, "invalid_value", "stream_options"),
        (
            {"messages": [{"role": "user", "content": "turnstream-blocked-phrase"}]},
            "content_policy_violation",
            "messages",
        ),
        ({"messages": [{"role": "user", "content": "word " * 12_000}]}, "context_length_exceeded", "messages"),
    ],
)
async def test_a_request_at_fault_is_400_and_says_where(
    client: AsyncOpenAI, fields: dict[str, Any], code: str, param: str | None
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await client.post("/chat/completions", body=body(**fields), cast_to=ChatCompletion)
    assert (caught.value.code, caught.value.param) == (code, param)
    assert caught.value.type == "invalid_request_error"


@pytest.mark.parametrize("text", ["{", "", '{"model": NaN}', '"text"', '{"model": "\xff"}'])
async def test_what_is_no_json_object_is_400(turnstream: FullStack, text: str) -> None:
    async with turnstream.wire() as wire:
        response = await wire.post("/chat/completions", content=text.encode("latin-1"))
    assert response.status_code == 400
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}
    assert response.json()["error"]["type"] == "invalid_request_error"


async def test_a_body_over_the_limit_is_413(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        await client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "x" * 600_000}])
    assert (caught.value.status_code, caught.value.code) == (413, "request_too_large")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("PUT", "/chat/completions", 405, "method_not_allowed"),
        ("DELETE", "/models", 405, "method_not_allowed"),
        ("POST", "/completions", 404, "unknown_url"),
        ("GET", "/models/", 404, "unknown_url"),
        ("POST", "/chat/completions/chatcmpl-nonsense/cancel", 404, "completion_not_found"),
    ],
)
async def test_routes_that_are_none(turnstream: FullStack, method: str, path: str, status: int, code: str) -> None:
    async with turnstream.wire() as wire:
        response = await wire.request(method, path)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)


async def test_parallel_turns_beyond_the_requests_quota_are_429(turnstream: FullStack) -> None:
    async with turnstream.client(await turnstream.new_key("tiny", "tim")) as client:
        calls = [client.chat.completions.create(model=MODEL, messages=ASK) for _ in range(4 * REQUESTS_OF_TINY)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
    answers = [one for one in outcomes if isinstance(one, ChatCompletion)]
    refused = [one for one in outcomes if isinstance(one, openai.RateLimitError)]
    assert (len(answers), len(answers) + len(refused)) == (REQUESTS_OF_TINY, len(outcomes))
    for error in refused:
        headers = error.response.headers
        assert error.code == "rate_limit_exceeded"
        assert 1 <= int(headers["retry-after"]) <= 60
        assert headers["x-ratelimit-limit-requests"] == str(REQUESTS_OF_TINY)
        assert headers["x-ratelimit-remaining-requests"] == "0"
        assert headers["x-ratelimit-reset-requests"].endswith("s")


async def test_the_tokens_quota_is_settled_by_what_was_used(turnstream: FullStack) -> None:
    async with turnstream.client(await turnstream.new_key("meagre", "mia")) as client:
        with pytest.raises(openai.RateLimitError) as too_large:
            await client.chat.completions.create(model=MODEL, messages=ASK, max_tokens=400)
        first = await client.chat.completions.with_raw_response.create(model=MODEL, messages=ASK, max_tokens=250)
        used = first.parse().usage
        # 250 tokens were held and about 60 used: a second turn of that size only fits once usage has settled the first.
        second = await _admitted_after_settlement(client, max_tokens=200)
    assert used is not None
    assert used.total_tokens < 100
    assert too_large.value.code == "rate_limit_exceeded"
    assert int(first.headers["x-ratelimit-remaining-tokens"]) < 50
    assert second.usage is not None


async def _admitted_after_settlement(client: AsyncOpenAI, max_tokens: int) -> ChatCompletion:
    async with asyncio.timeout(5):
        while True:
            try:
                return await client.chat.completions.create(model=MODEL, messages=ASK, max_tokens=max_tokens)
            except openai.RateLimitError:
                await asyncio.sleep(0.05)


def demo(directive: str) -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": f"[[demo {directive}]] Hello?"}]


async def test_a_model_that_fails_in_the_middle_raises_after_the_text(client: AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model=MODEL, messages=demo("tokens=40 gap_ms=5 error=invalid error_after=20"), stream=True
    )
    turn = StreamedTurn()
    with pytest.raises(openai.APIError) as caught:
        await turn.read(stream)
    assert caught.value.code == "upstream_rejected"
    assert turn.text.startswith("This is the built-in demonstration model")
    assert turn.finish_reasons == []


async def test_the_frame_of_a_failure_comes_without_done(turnstream: FullStack) -> None:
    failing = body(messages=demo("error=invalid error_after=5 gap_ms=0"), stream=True)
    async with turnstream.wire() as wire:
        response = await wire.post("/chat/completions", json=failing)
    assert response.status_code == 200
    last = [frame for frame in response.text.split("\n\n") if frame.startswith("data: ")][-1]
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "upstream_rejected"
    assert "[DONE]" not in response.text


async def test_a_model_that_fails_without_text_has_its_true_status_when_nothing_is_streamed(
    client: AsyncOpenAI,
) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        await client.chat.completions.create(model=MODEL, messages=demo("error=invalid"))
    assert (caught.value.status_code, caught.value.code) == (502, "upstream_rejected")


async def test_a_model_that_is_away_for_a_moment_is_not_noticed(client: AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model=MODEL, messages=demo("tokens=40 gap_ms=5 error=unavailable error_after=20"), stream=True
    )
    turn = await StreamedTurn().read(stream)
    # After its introduction the model counts its tokens, so a lost or repeated one shows.
    assert turn.text.endswith("".join(f" {number}" for number in range(18, 41)))
    assert turn.finish_reasons == ["stop"]
