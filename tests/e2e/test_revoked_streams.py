"""Who loses access on the real stack loses open streams on every edge, and the right to open more."""

import time
from typing import Any

import httpx2
import pytest
from openai import APIError, AsyncOpenAI, AsyncStream, AuthenticationError
from openai.types.chat import ChatCompletionChunk

from tests.support.full_stack import MODEL, TURN_SECONDS_MAX, FullStack, StreamedTurn, eventually

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

EDGES = ("edge", "edge-2")
PASSWORD = "correct horse battery"  # noqa: S105 - of nobody
# Long enough to be still running when the access is lost, by far.
ENDLESS = "[[demo tokens=600 gap_ms=50 first_ms=0]] Count."


def site(turnstream: FullStack, token: str = "") -> httpx2.AsyncClient:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return httpx2.AsyncClient(
        base_url=turnstream.base_url.removesuffix("/v1"), headers=headers, timeout=TURN_SECONDS_MAX
    )


async def registered(turnstream: FullStack, name: str) -> dict[str, Any]:
    async with site(turnstream) as http:
        body = {"email": f"{name}@example.org", "password": PASSWORD}
        response = await http.post("/v1/auth/register", json=body)
    assert response.status_code == 201, response.text
    session: dict[str, Any] = response.json()
    return session


def client_of(turnstream: FullStack, edge: str, token: str) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=turnstream.url_of(edge), api_key=token, max_retries=0, timeout=TURN_SECONDS_MAX)


async def running_stream(client: AsyncOpenAI) -> AsyncStream[ChatCompletionChunk]:
    """A stream whose answer has begun and is far from its end."""
    stream = await client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": ENDLESS}], stream=True
    )
    turn = StreamedTurn()
    await turn.read(stream, until="This")
    return stream


async def error_of(stream: AsyncStream[ChatCompletionChunk]) -> Any:
    with pytest.raises(APIError) as caught:
        async for _ in stream:
            pass
    return caught.value.code


async def test_a_revoked_key_loses_its_streams_on_both_edges(turnstream: FullStack) -> None:
    session = await registered(turnstream, "revoker")
    async with site(turnstream, session["access_token"]) as http:
        key = (await http.post("/v1/api_keys", json={"label": "doomed"})).json()
        async with (
            client_of(turnstream, EDGES[0], key["key"]) as one,
            client_of(turnstream, EDGES[1], key["key"]) as two,
        ):
            streams = [await running_stream(client) for client in (one, two)]
            assert (await http.delete(f"/v1/api_keys/{key['id']}")).status_code == 200
            assert [await error_of(stream) for stream in streams] == ["key_revoked"] * 2
            for client in (one, two):
                with pytest.raises(AuthenticationError):
                    await client.chat.completions.create(
                        model=MODEL, messages=[{"role": "user", "content": "Still there?"}]
                    )


async def test_an_ended_session_loses_its_streams(turnstream: FullStack) -> None:
    session = await registered(turnstream, "leaver")
    async with client_of(turnstream, EDGES[1], session["access_token"]) as client:
        stream = await running_stream(client)
        async with site(turnstream, session["access_token"]) as http:
            assert (await http.post("/v1/auth/logout")).status_code == 204
        assert await error_of(stream) == "session_ended"


async def test_the_command_line_revokes_suspends_and_promotes(turnstream: FullStack) -> None:
    session = await registered(turnstream, "watched")
    user = session["user"]
    async with site(turnstream, session["access_token"]) as http:
        key = (await http.post("/v1/api_keys")).json()
        async with client_of(turnstream, EDGES[1], key["key"]) as client:
            stream = await running_stream(client)
            assert turnstream.command("keys", "revoke", key["id"]).returncode == 0
            assert await error_of(stream) == "key_revoked"
        promoted = turnstream.command("users", "set-role", user["id"], "admin", "--tenant", user["tenant_id"])
        assert promoted.returncode == 0, promoted.stderr

        async def is_admin() -> bool:
            return (await http.get("/v1/admin/users")).status_code == 200

        await eventually(is_admin)
        async with client_of(turnstream, EDGES[0], session["access_token"]) as client:
            stream = await running_stream(client)
            suspended = turnstream.command("users", "suspend", user["id"], "--tenant", user["tenant_id"])
            assert suspended.returncode == 0, suspended.stderr
            assert await error_of(stream) == "account_suspended"


async def test_a_key_that_expires_loses_its_stream(turnstream: FullStack) -> None:
    session = await registered(turnstream, "expiring")
    async with site(turnstream, session["access_token"]) as http:
        expires_at = int(time.time()) + 4
        key = (await http.post("/v1/api_keys", json={"expires_at": expires_at})).json()
        async with client_of(turnstream, EDGES[0], key["key"]) as client:
            assert await error_of(await running_stream(client)) == "key_expired"
            with pytest.raises(AuthenticationError):
                await client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Hello?"}])
