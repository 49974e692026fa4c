"""Tenants are walls: every route, asked by everybody who is not its owner, on the real stack."""

import asyncio
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest

from tests.e2e.test_revoked_streams import registered, site
from tests.support.full_stack import FullStack, eventually
from tests.support.isolation_rows import MODEL, ROWS, SHORT, Kind, Row

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

# Requests at once: enough to be quick, too few to be refused for their number.
AT_ONCE = 4
REFUSED = ("none", "malformed", "malformed_token", "revoked", "expired")
STRANGERS = ("other_user", "other_tenant")
UNKNOWN: Mapping[str, str] = {
    "completion_id": "chatcmpl-01aaaaaaaa0000000000000000",
    "conversation_id": "conv_01aaaaaaaa0000000000000000",
    "item_id": "msg_1",
    "key_id": "aaaaaaaaaaaaaaaa",
    "response_id": "resp_01aaaaaaaa0000000000000000",
    "user_id": "user_aaaaaaaaaaaaaaaaaaaaaaaa",
}


@dataclass(frozen=True)
class World:
    """The callers by name with their tokens, and what the owner owns by the name of its path parameter."""

    base_url: str
    tokens: Mapping[str, str | None]
    owned: Mapping[str, str]

    def client(self, caller: str) -> httpx2.AsyncClient:
        token = self.tokens[caller]
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        return httpx2.AsyncClient(base_url=self.base_url, headers=headers, timeout=30)

    async def ask(self, caller: str, name: tuple[str, str], objects: Mapping[str, str]) -> httpx2.Response:
        method, path = name
        row = ROWS[name]
        url = path.format(**{"model_id": MODEL, "name": "start.js", **objects})
        async with self.client(caller) as http:
            return await http.request(method, url, json=row.body, params=dict(row.query))


async def key_made(turnstream: FullStack, access_token: str, **wanted: Any) -> dict[str, Any]:
    async with site(turnstream, access_token) as http:
        response = await http.post("/v1/api_keys", json=wanted)
    assert response.status_code == 201, response.text
    key: dict[str, Any] = response.json()
    return key


async def things_of(turnstream: FullStack, session: dict[str, Any]) -> dict[str, str]:
    """One object of each kind."""
    async with site(turnstream, session["access_token"]) as http:
        turn = {"model": MODEL, "messages": [{"role": "user", "content": SHORT}], "store": True}
        answer = (await http.post("/v1/chat/completions", json=turn)).json()
        conversation_id = answer["conversation_id"]
        response = (await http.post("/v1/responses", json={"model": MODEL, "input": SHORT})).json()
        items = (await http.get(f"/v1/conversations/{conversation_id}/items", params={"order": "asc"})).json()
    return {
        "completion_id": answer["id"],
        "conversation_id": conversation_id,
        "item_id": items["data"][0]["id"],
        "key_id": (await key_made(turnstream, session["access_token"]))["id"],
        "response_id": response["id"],
        "user_id": session["user"]["id"],
    }


async def without_access(turnstream: FullStack, owner: dict[str, Any]) -> Mapping[str, str]:
    """Keys of the owner's that pass no more."""
    revoked = await key_made(turnstream, owner["access_token"])
    async with site(turnstream, owner["access_token"]) as http:
        await http.delete(f"/v1/api_keys/{revoked['id']}")
    user = owner["user"]
    made = turnstream.command("keys", "create", "--user", user["id"], "--tenant", user["tenant_id"], "--expires", "1s")
    expired = made.stdout.strip()

    async def passes_no_more() -> bool:
        async with site(turnstream, expired) as http:
            return (await http.get("/v1/models")).status_code == 401

    await eventually(passes_no_more)
    return {"revoked": revoked["key"], "expired": expired}


@pytest.fixture
async def world(turnstream: FullStack) -> World:
    owner, other = [await registered(turnstream, f"{name}-{secrets.token_hex(4)}") for name in ("owner", "other")]
    tokens: dict[str, str | None] = {
        "owner": owner["access_token"],
        "other_user": other["access_token"],
        "other_tenant": await turnstream.new_key("free", "stranger"),
        "none": None,
        "malformed": "ts-nonsense",
        "malformed_token": owner["access_token"][:-8] + "AAAAAAAA",
        **await without_access(turnstream, owner),
    }
    return World(turnstream.base_url.removesuffix("/v1"), tokens, await things_of(turnstream, owner))


def code_of(response: httpx2.Response) -> str:
    return str(response.json()["error"]["code"])


def expected(row: Row, caller: str, response: httpx2.Response) -> bool:
    """Whether the answer is what this caller may get of this route."""
    if row.kind is Kind.PUBLIC:
        return True
    if caller in REFUSED:
        return response.status_code == 401
    if row.kind is Kind.ADMIN:
        return response.status_code == 403
    if row.kind is Kind.OBJECT and caller in STRANGERS:
        return response.status_code == 404
    return response.status_code not in {401, 403, 404}


async def test_nobody_reaches_what_is_not_theirs(world: World) -> None:
    slots, wrong = asyncio.Semaphore(AT_ONCE), []

    async def check(caller: str, name: tuple[str, str]) -> None:
        async with slots:
            response = await world.ask(caller, name, world.owned)
        if not expected(ROWS[name], caller, response):
            wrong.append((caller, *name, response.status_code))

    async with asyncio.TaskGroup() as tasks:
        for name, row in ROWS.items():
            # What ends a stranger's own session would leave them without one for the other rows.
            strangers = () if row.kind is Kind.OWN and row.last else STRANGERS
            for caller in (*REFUSED, *strangers):
                tasks.create_task(check(caller, name))
    assert sorted(wrong) == []
    # After all of that the owner still has everything; what takes it away comes last.
    for name in sorted(ROWS, key=lambda name: ROWS[name].last):
        response = await world.ask("owner", name, world.owned)
        if not expected(ROWS[name], "owner", response):
            wrong.append(("owner", *name, response.status_code))
    assert wrong == []


async def test_somebody_elses_and_nobodys_are_told_apart_by_nothing(world: World) -> None:
    for name, row in ROWS.items():
        if row.kind is not Kind.OBJECT:
            continue
        theirs = await world.ask("other_user", name, world.owned)
        nobodys = await world.ask("other_user", name, UNKNOWN)
        assert (theirs.status_code, theirs.json()) == (nobodys.status_code, nobodys.json()), name


async def test_public_answers_are_the_same_for_everybody(world: World) -> None:
    for name, row in ROWS.items():
        if row.kind is Kind.PUBLIC:
            statuses = {(await world.ask(caller, name, {})).status_code for caller in ("none", "revoked", "other_user")}
            assert len(statuses) == 1, name
