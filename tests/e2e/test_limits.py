"""Plans on the whole stack, with two of every process: days, turns at once, what is given back, the ledger."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, Final

import openai
import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletion, ChatCompletionMessageParam

from tests.support.full_stack import MODEL, REQUESTS_OF_DAILY, SETTLE_SECONDS_MAX, FullStack, eventually

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]
CALLS: Final = 50
ASK: Final[list[ChatCompletionMessageParam]] = [{"role": "user", "content": "Hello?"}]
BLOCKED: Final[list[ChatCompletionMessageParam]] = [{"role": "user", "content": "turnstream-blocked-phrase"}]
LONG: Final[list[ChatCompletionMessageParam]] = [{"role": "user", "content": "Hello? [[demo tokens=2000 gap_ms=20]]"}]


def code_of(error: BaseException) -> str | None:
    assert isinstance(error, openai.APIStatusError)
    return error.code


async def ask(client: AsyncOpenAI, messages: list[ChatCompletionMessageParam] = ASK) -> ChatCompletion:
    return await client.chat.completions.create(model=MODEL, messages=messages, max_tokens=20)


def explained(turnstream: FullStack, turn: str) -> dict[str, Any]:
    told = turnstream.command("limits", "explain", turn, "--json")
    assert told.returncode == 0, told.stderr
    report: dict[str, Any] = json.loads(told.stdout)
    return report


async def eventually_answered(client: AsyncOpenAI) -> None:
    async def answered() -> bool:
        try:
            await ask(client)
        except openai.RateLimitError:
            return False
        return True

    await eventually(answered, SETTLE_SECONDS_MAX)


async def eventually_explained(turnstream: FullStack, turn: str, is_it: Callable[[set[str]], bool]) -> dict[str, Any]:
    async def found() -> bool:
        report = await asyncio.to_thread(explained, turnstream, turn)
        return is_it({entry["entry"] for entry in report["entries"]})

    await eventually(found, SETTLE_SECONDS_MAX)
    return await asyncio.to_thread(explained, turnstream, turn)


async def test_fifty_parallel_calls_on_a_day_of_ten_are_ten(turnstream: FullStack) -> None:
    async with turnstream.client(await turnstream.new_key("daily", "dora")) as client:
        calls: list[Awaitable[ChatCompletion]] = [ask(client) for _ in range(CALLS)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
    refused = [one for one in outcomes if isinstance(one, openai.RateLimitError)]
    answered = [one for one in outcomes if isinstance(one, ChatCompletion)]
    assert (len(answered), len(refused)) == (REQUESTS_OF_DAILY, CALLS - REQUESTS_OF_DAILY)
    assert {code_of(error) for error in refused} == {"insufficient_quota"}
    headers = refused[0].response.headers
    assert headers["x-ratelimit-limit-requests"] == str(REQUESTS_OF_DAILY)
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert int(headers["retry-after"]) > 60
    report = await asyncio.to_thread(explained, turnstream, headers["x-request-id"])
    assert (report["verdict"], report["entries"][0]["refused_by"]["period"]) == ("refused", "day")
    settled = await eventually_explained(turnstream, answered[0].id, lambda entries: "settled" in entries)
    assert settled["verdict"] == "admitted"


async def test_one_turn_at_a_time_where_the_plan_says_so(turnstream: FullStack) -> None:
    async with turnstream.client(await turnstream.new_key("single", "sina")) as client:
        running = await client.chat.completions.create(model=MODEL, messages=LONG, stream=True)
        first = await anext(running)
        with pytest.raises(openai.RateLimitError) as second:
            await ask(client)
        assert second.value.code == "concurrent_turns_exceeded"
        await client.post(f"/chat/completions/{first.id}/cancel", cast_to=object)
        await eventually_answered(client)


async def test_a_blocked_turn_gives_back_what_it_held(turnstream: FullStack) -> None:
    async with turnstream.client(await turnstream.new_key("single", "bela")) as client:
        with pytest.raises(openai.BadRequestError) as blocked:
            await ask(client, BLOCKED)
        turn = blocked.value.response.headers["x-request-id"]
        report = await eventually_explained(turnstream, turn, lambda entries: entries == {"reserved", "released"})
        assert report["refused"] == "moderation: 400 content_policy_violation"
        await eventually_answered(client)


async def test_usage_is_there_soon_after_the_answer(turnstream: FullStack) -> None:
    key = await turnstream.new_key("free", "ursula")
    async with turnstream.client(key) as client, turnstream.wire(key) as wire:
        answer = await ask(client)
        assert answer.usage is not None
        used = answer.usage.prompt_tokens
        since: dict[str, str | int] = {"start_time": answer.created - 60, "group_by": "model"}

        async def told() -> bool:
            page = await wire.get("/organization/usage/completions", params=since)
            assert page.status_code == 200, page.text
            results = [result for bucket in page.json()["data"] for result in bucket["results"]]
            return [(each["model"], each["input_tokens"]) for each in results] == [(MODEL, used)]

        await eventually(told, SETTLE_SECONDS_MAX)


async def test_auto_is_answered_by_a_model_of_the_plan(turnstream: FullStack) -> None:
    async with turnstream.client(await turnstream.new_key("free", "otto")) as client:
        answer = await client.chat.completions.create(model="auto", messages=ASK, max_tokens=20)
        alias = await client.chat.completions.create(model="fast", messages=ASK, max_tokens=20)
    assert answer.model == alias.model == MODEL
