"""Who loses access while an answer is written loses the rest of it, on every edge."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import pytest
from openai import APIError, APIStatusError, AsyncStream
from openai.types.chat import ChatCompletionChunk

from schemas.topics import TOKENS
from tests.integration.edge.test_account_routes import bearer, make_admin, registered
from tests.unit.ingest.edge_world import SSE, EdgeWorld, Stages, running_edge, until

FAST = SSE.model_copy(update={"abandon_grace_seconds": 0.05})


def say_and_wait(stages: Stages) -> None:
    stages.clear()
    stages.say("Hel")


@pytest.fixture
async def opened() -> AsyncIterator[AsyncExitStack]:
    """Closes the clients of a test."""
    async with AsyncExitStack() as clients:
        yield clients


async def stream_of(opened: AsyncExitStack, world: EdgeWorld, token: str) -> AsyncStream[ChatCompletionChunk]:
    client = await opened.enter_async_context(world.client(token))
    stream = await client.chat.completions.create(
        model="turnstream-fast", messages=[{"role": "user", "content": "hi"}], stream=True
    )
    await anext(stream)
    return stream


async def ended_with(stream: AsyncStream[ChatCompletionChunk]) -> Any:
    with pytest.raises(APIError) as caught:
        async for _ in stream:
            pass
    return caught.value.code


def was_cancelled(world: EdgeWorld) -> bool:
    return any(b'"cancelled"' in record.value for record in world.log.records(TOKENS.name))


async def test_a_revoked_key_loses_its_streams_on_both_edges_and_its_stateless_turn_is_cancelled(
    opened: AsyncExitStack,
) -> None:
    async with (
        running_edge(say_and_wait, FAST) as world,
        running_edge(say_and_wait, FAST, beside=world) as beside,
        httpx2.AsyncClient(base_url=world.url, timeout=10) as http,
    ):
        session = bearer((await registered(http))["access_token"])
        doomed = (await http.post("/v1/api_keys", headers=session)).json()
        kept = (await http.post("/v1/api_keys", headers=session)).json()
        streams = [await stream_of(opened, one, doomed["key"]) for one in (world, beside)]
        other = await stream_of(opened, beside, kept["key"])
        await http.delete(f"/v1/api_keys/{doomed['id']}", headers=session)
        assert [await ended_with(stream) for stream in streams] == ["key_revoked"] * 2
        beside.stages[-1].say("lo!")
        beside.stages[-1].finish()
        assert "".join([chunk.choices[0].delta.content or "" async for chunk in other]).endswith("lo!")


async def test_a_suspended_user_loses_streams_of_sessions_and_keys(opened: AsyncExitStack) -> None:
    async with (
        running_edge(say_and_wait, FAST) as world,
        httpx2.AsyncClient(base_url=world.url, timeout=10) as http,
    ):
        admin, user = await registered(http), await registered(http, "bob@example.org")
        key = (await http.post("/v1/api_keys", headers=bearer(user["access_token"]))).json()
        streams = [await stream_of(opened, world, token) for token in (user["access_token"], key["key"])]
        await make_admin(world, admin["user"])
        path = f"/v1/admin/users/{user['user']['id']}"
        await http.post(path, headers=bearer(admin["access_token"]), json={"suspended": True})
        assert [await ended_with(stream) for stream in streams] == ["account_suspended"] * 2


async def test_a_whole_answer_that_was_waited_for_is_a_401(opened: AsyncExitStack) -> None:
    async with (
        running_edge(say_and_wait, FAST) as world,
        httpx2.AsyncClient(base_url=world.url, timeout=10) as http,
    ):
        session = await registered(http)
        client = await opened.enter_async_context(world.client(session["access_token"]))
        asked = asyncio.ensure_future(
            client.chat.completions.create(model="turnstream-fast", messages=[{"role": "user", "content": "hi"}])
        )
        await until(lambda: len(world.stages) == 1)
        await http.post("/v1/auth/logout", headers=bearer(session["access_token"]))
        with pytest.raises(APIStatusError) as caught:
            await asked
        assert (caught.value.status_code, caught.value.code) == (401, "session_ended")


async def test_the_turn_of_a_lost_stateless_stream_is_cancelled(opened: AsyncExitStack) -> None:
    async with (
        running_edge(say_and_wait, FAST) as world,
        httpx2.AsyncClient(base_url=world.url, timeout=10) as http,
    ):
        session = await registered(http)
        stream = await stream_of(opened, world, session["access_token"])
        await http.post("/v1/auth/logout", headers=bearer(session["access_token"]))
        assert await ended_with(stream) == "session_ended"
        await until(lambda: was_cancelled(world))
