"""What clients see while a server is away, as ``docs/operations.md`` has it; and that it all comes back by itself."""

import asyncio
import resource
import secrets
import signal
import sys
from contextlib import suppress
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, AsyncStream
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam
from redis.asyncio import Redis

from tests.support.full_stack import MODEL, RECOVERY_SECONDS_MAX, FullStack, StreamedTurn, eventually

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

TOKENS = 150
COUNT: list[ChatCompletionMessageParam] = [
    {"role": "user", "content": f"[[demo tokens={TOKENS} gap_ms=20 first_ms=0]] Count."}
]
SHORT: list[ChatCompletionMessageParam] = [{"role": "user", "content": "[[demo tokens=20 gap_ms=0 first_ms=0]] Hi."}]
ANSWER = "This is the built-in demonstration model of Turnstream, not an AI." + "".join(
    f" {number}" for number in range(14, TOKENS + 1)
)


async def begin(client: AsyncOpenAI, **fields: Any) -> tuple[AsyncStream[ChatCompletionChunk], StreamedTurn]:
    """An answer of three seconds of which the client has read the beginning."""
    stream = await client.chat.completions.create(model=MODEL, messages=COUNT, stream=True, extra_body=fields)
    return stream, await StreamedTurn().read(stream, until=" 20")


async def ask(client: AsyncOpenAI, key: str | None = None, **fields: Any) -> str:
    headers = {} if key is None else {"Idempotency-Key": key}
    answer = await client.chat.completions.create(
        model=MODEL, messages=SHORT, extra_body=fields or None, extra_headers=headers
    )
    return answer.choices[0].message.content or ""


async def works_again(client: AsyncOpenAI, **fields: Any) -> None:
    """A turn is answered, sooner or later, by whoever was started again."""

    async def answered() -> bool:
        try:
            return bool(await ask(client, **fields))
        except (openai.InternalServerError, openai.APIConnectionError):
            return False

    await eventually(answered, RECOVERY_SECONDS_MAX)


async def refusal(client: AsyncOpenAI, key: str | None = None, **fields: Any) -> tuple[int, str | None]:
    """Status and code of a turn that is refused, and that says when to come back."""
    with pytest.raises(openai.InternalServerError) as caught:
        await ask(client, key, **fields)
    assert int(caught.value.response.headers["retry-after"]) >= 1
    return caught.value.status_code, caught.value.code


async def test_without_redis_turns_go_on(turnstream: FullStack, client: AsyncOpenAI) -> None:
    stream, turn = await begin(client, store=True)
    old_pid = turnstream.send_signal("redis", signal.SIGKILL)
    assert await ask(client)
    assert await ask(client, store=True)
    await turn.read(stream)
    assert (turn.text, turn.finish_reasons) == (ANSWER, ["stop"])
    await turnstream.replaced("redis", old_pid)
    assert await ask(client)


async def test_a_redis_that_hangs_costs_one_wait(turnstream: FullStack, client: AsyncOpenAI) -> None:
    with turnstream.stopped("redis"):
        async with asyncio.timeout(10):
            answers = [await ask(client) for _ in range(4)]
    assert all(answers)
    assert await ask(client)


async def test_a_redis_that_forgot_everything_changes_no_answer(turnstream: FullStack, client: AsyncOpenAI) -> None:
    key = secrets.token_hex(8)
    stream, turn = await begin(client, store=True)
    first = await ask(client, key)
    redis = Redis.from_url(turnstream.stack.endpoints.redis_url or "")
    await redis.flushall()
    await redis.aclose()
    assert await ask(client, key) == first
    await turn.read(stream)
    assert (turn.text, turn.finish_reasons) == (ANSWER, ["stop"])
    conversation = turn.chunks[0].model_dump()["conversation_id"]
    answer = await client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "And?"}], extra_body={"conversation_id": conversation}
    )
    assert "(2 messages before this one)" in (answer.choices[0].message.content or "")


async def test_without_cassandra_stateless_turns_go_on_and_stored_ones_say_no(
    turnstream: FullStack, client: AsyncOpenAI
) -> None:
    await ask(client)
    stream, turn = await begin(client, store=True)
    with turnstream.stopped("cassandra"):
        await turn.read(stream, until=f" {TOKENS}")
        assert await ask(client)
        assert await refusal(client, store=True) == (503, "storage_unavailable")
        assert (await refusal(client, key=secrets.token_hex(8)))[0] == 503
        # The end of a stored answer waits for its storage.
        assert turn.finish_reasons in ([], ["stop"])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await turn.read(stream)
    await turn.read(stream)
    assert (turn.text, turn.finish_reasons) == (ANSWER, ["stop"])
    await works_again(client, store=True)


async def test_an_answer_goes_on_when_its_gpu_server_is_started_again(
    turnstream: FullStack, client: AsyncOpenAI
) -> None:
    stream, turn = await begin(client)
    old_pid = turnstream.send_signal("triton", signal.SIGKILL)
    await turn.read(stream)
    assert (turn.text, turn.finish_reasons) == (ANSWER, ["stop"])
    await turnstream.replaced("triton", old_pid)


async def test_a_gpu_server_that_stays_away_is_an_error_and_not_silence(
    turnstream: FullStack, client: AsyncOpenAI
) -> None:
    stream, turn = await begin(client)
    with turnstream.stopped("triton"):
        with pytest.raises(openai.APIError) as caught:
            await turn.read(stream)
        assert caught.value.code == "upstream_unavailable"
    assert ANSWER.startswith(turn.text)
    await works_again(client)


async def test_a_log_that_hangs_is_503_and_the_retry_joins(turnstream: FullStack, client: AsyncOpenAI) -> None:
    key = secrets.token_hex(8)
    stream, turn = await begin(client)
    with turnstream.stopped("kafka"):
        assert await refusal(client, key) == (503, "outcome_unknown")
    assert await eventually(lambda: answered(client, key), RECOVERY_SECONDS_MAX)
    await turn.read(stream)
    assert (turn.text, turn.finish_reasons) == (ANSWER, ["stop"])


async def answered(client: AsyncOpenAI, key: str) -> str | None:
    try:
        return await ask(client, key)
    except openai.InternalServerError:
        return None


async def test_a_log_that_is_started_again_loses_nothing(turnstream: FullStack, client: AsyncOpenAI) -> None:
    stream, turn = await begin(client, store=True)
    old_pid = turnstream.send_signal("kafka", signal.SIGKILL)
    await turn.read(stream)
    assert (turn.text, turn.finish_reasons) == (ANSWER, ["stop"])
    await turnstream.replaced("kafka", old_pid)
    await works_again(client, store=True)


@pytest.mark.skipif(sys.platform != "linux", reason="the size of another process's files is bounded by prlimit(2)")
async def test_a_log_whose_disk_is_full_takes_nothing_that_it_loses(turnstream: FullStack, client: AsyncOpenAI) -> None:
    """Kafka gives up a disk at its first failed write, and ends; the next one has the room that was made meanwhile."""
    pid, key = turnstream.pid("kafka"), secrets.token_hex(8)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (4_096, resource.RLIM_INFINITY))
    told: list[tuple[str, str]] = []

    async def replaced() -> bool:
        with suppress(openai.InternalServerError):
            told.append((f"{key}-{len(told)}", await ask(client, f"{key}-{len(told)}", store=True)))
        return turnstream.stack.part("kafka").pid not in {None, pid}

    await eventually(replaced, RECOVERY_SECONDS_MAX)
    await turnstream.replaced("kafka", pid)
    await works_again(client, store=True)
    assert [await ask(client, each, store=True) for each, _ in told] == [answer for _, answer in told]
