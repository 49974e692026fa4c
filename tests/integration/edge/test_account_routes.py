"""Accounts over HTTP: from registration to revocation, on an edge with its world in memory."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest

from producers.accounts.ports import UserChange
from schemas.accounts import AccountRole, SessionCredential
from tests.unit.ingest.edge_world import KEY, EdgeWorld, running_edge

EMAIL = "ann@example.org"
PASSWORD = "correct horse battery"  # noqa: S105 - of nobody


@asynccontextmanager
async def edge() -> AsyncIterator[tuple[EdgeWorld, httpx2.AsyncClient]]:
    async with running_edge() as world, httpx2.AsyncClient(base_url=world.url, timeout=10) as http:
        yield world, http


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


async def registered(http: httpx2.AsyncClient, email: str = EMAIL) -> dict[str, Any]:
    response = await http.post("/v1/auth/register", json={"email": email, "password": PASSWORD})
    assert response.status_code == 201, response.text
    body: dict[str, Any] = response.json()
    return body


def code_of(response: httpx2.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


async def make_admin(world: EdgeWorld, user: dict[str, Any]) -> None:
    change = UserChange(roles=(AccountRole.USER, AccountRole.ADMIN))
    await world.keys.rows.users.change(user["tenant_id"], user["id"], change, 0)


async def test_who_registers_is_logged_in_and_can_chat() -> None:
    async with edge() as (world, http):
        session = await registered(http, " Ann@Example.org")
        assert session["expires_in"] == 600
        me = (await http.get("/v1/auth/me", headers=bearer(session["access_token"]))).json()
        assert (me["email"], me["plan"], me["roles"], me["credential"]["type"]) == (EMAIL, "free", ["user"], "session")
        async with world.client(session["access_token"]) as client:
            answer = await client.chat.completions.create(
                model="turnstream-fast", messages=[{"role": "user", "content": "hi"}]
            )
        assert answer.choices[0].message.content == "Hello!"
        credential = world.submitted[0].credential
        assert isinstance(credential, SessionCredential)
        assert credential.user_id == session["user"]["id"]
        assert session["access_token"] not in world.submitted[0].model_dump_json()


async def test_an_address_registers_once_and_logs_in_with_its_password_alone() -> None:
    async with edge() as (_, http):
        first = await registered(http)
        again = await http.post("/v1/auth/register", json={"email": EMAIL.upper(), "password": PASSWORD})
        assert code_of(again) == (409, "email_taken")
        login = await http.post("/v1/auth/login", json={"email": EMAIL, "password": PASSWORD})
        assert login.status_code == 200
        assert login.headers["cache-control"] == "no-store"
        assert login.json()["user"] == first["user"]
        for email, password in ((EMAIL, "wrong horse battery"), ("bob@example.org", PASSWORD), (EMAIL, "x")):
            refused = await http.post("/v1/auth/login", json={"email": email, "password": password})
            assert code_of(refused) == (401, "invalid_login")
            assert password not in refused.text


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"email": "nobody", "password": PASSWORD}, "email"),
        ({"email": EMAIL, "password": "short"}, "password"),
        ({"email": EMAIL}, "password"),
        ({"email": EMAIL, "password": PASSWORD, "role": "admin"}, "role"),
    ],
)
async def test_a_bad_registration_names_the_field_and_repeats_nothing(body: dict[str, str], param: str) -> None:
    async with edge() as (_, http):
        refused = await http.post("/v1/auth/register", json=body)
        assert refused.status_code == 400
        assert refused.json()["error"]["param"] == param
        assert body.get("password", "absent") not in refused.text


async def test_a_refresh_token_that_comes_twice_ends_its_session() -> None:
    async with edge() as (_, http):
        first = await registered(http)
        second = (await http.post("/v1/auth/refresh", json={"refresh_token": first["refresh_token"]})).json()
        assert (await http.get("/v1/auth/me", headers=bearer(second["access_token"]))).status_code == 200
        stolen = await http.post("/v1/auth/refresh", json={"refresh_token": first["refresh_token"]})
        assert code_of(stolen) == (401, "invalid_refresh_token")
        after = await http.post("/v1/auth/refresh", json={"refresh_token": second["refresh_token"]})
        assert code_of(after) == (401, "invalid_refresh_token")

        async def refused() -> bool:
            return (await http.get("/v1/auth/me", headers=bearer(second["access_token"]))).status_code == 401

        while not await refused():
            pass


@pytest.mark.parametrize("by", ["refresh_token", "access_token"])
async def test_logging_out_ends_the_session(by: str) -> None:
    async with edge() as (_, http):
        session = await registered(http)
        if by == "refresh_token":
            out = await http.post("/v1/auth/logout", json={"refresh_token": session["refresh_token"]})
        else:
            out = await http.post("/v1/auth/logout", headers=bearer(session["access_token"]))
        assert (out.status_code, out.content) == (204, b"")
        refused = await http.post("/v1/auth/refresh", json={"refresh_token": session["refresh_token"]})
        assert code_of(refused) == (401, "invalid_refresh_token")


async def test_a_key_is_no_session() -> None:
    async with edge() as (_, http):
        assert code_of(await http.post("/v1/auth/logout", headers=bearer(KEY.text))) == (400, "session_required")
        me = (await http.get("/v1/auth/me", headers=bearer(KEY.text))).json()
        assert (me["id"], me["email"], me["credential"]) == ("ada", None, {"type": "api_key", "id": KEY.key_id})


async def test_the_public_keys_are_public_and_nothing_else() -> None:
    async with edge() as (_, http):
        jwks = (await http.get("/.well-known/jwks.json")).json()
        assert [set(key) >= {"kid", "x", "y"} and "d" not in key for key in jwks["keys"]] == [True]


async def test_a_key_is_made_shown_once_used_and_revoked() -> None:
    async with edge() as (world, http):
        session = bearer((await registered(http))["access_token"])
        wanted = {"label": "laptop", "models": ["turnstream-fast"], "requests_per_minute": 5}
        made = await http.post("/v1/api_keys", headers=session, json=wanted)
        assert made.status_code == 201
        key = made.json()
        assert key["key"].startswith(key["prefix"])
        assert {name: key[name] for name in wanted} == wanted
        shown = (await http.get(f"/v1/api_keys/{key['id']}", headers=session)).json()
        assert shown == {name: value for name, value in key.items() if name != "key"}
        assert (await http.get("/v1/api_keys", headers=session)).json()["data"] == [shown]
        assert (await http.get("/v1/models", headers=bearer(key["key"]))).status_code == 200
        revoked = await http.delete(f"/v1/api_keys/{key['id']}", headers=session)
        assert revoked.json() == {"id": key["id"], "object": "api_key.deleted", "deleted": True}
        assert code_of(await http.delete(f"/v1/api_keys/{key['id']}", headers=session)) == (404, "key_not_found")
        while (await http.get("/v1/models", headers=bearer(key["key"]))).status_code != 401:
            pass
        assert key["key"] not in str(world.keys.rows.keys.rows)


async def test_a_confined_key_makes_no_keys() -> None:
    async with edge() as (_, http):
        session = bearer((await registered(http))["access_token"])
        made = (await http.post("/v1/api_keys", headers=session, json={"tokens_per_minute": 7})).json()
        assert code_of(await http.post("/v1/api_keys", headers=bearer(made["key"]))) == (403, "key_confined")
        free = (await http.post("/v1/api_keys", headers=session)).json()
        assert (await http.post("/v1/api_keys", headers=bearer(free["key"]))).status_code == 201


@pytest.mark.parametrize(
    ("wanted", "param"),
    [
        ({"expires_at": 1}, "expires_at"),
        ({"models": ["gpt-4"]}, "models"),
        ({"models": []}, "models"),
        ({"requests_per_minute": 0}, "requests_per_minute"),
        ({"label": "x" * 201}, "label"),
        ({"name": "x"}, "name"),
    ],
)
async def test_a_bad_wish_for_a_key_names_its_field(wanted: dict[str, object], param: str) -> None:
    async with edge() as (_, http):
        refused = await http.post("/v1/api_keys", headers=bearer(KEY.text), json=wanted)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)


async def test_admins_see_and_change_the_users_of_their_tenant() -> None:
    async with edge() as (world, http):
        ann, bob = await registered(http), await registered(http, "bob@example.org")
        admin, mortal = bearer(ann["access_token"]), bearer(bob["access_token"])
        assert code_of(await http.get("/v1/admin/users", headers=admin)) == (403, "admin_required")
        await make_admin(world, ann["user"])
        await http.post("/v1/auth/refresh", json={"refresh_token": ann["refresh_token"]})
        world.accounts.open_access._accounts._cached.clear()
        page = (await http.get("/v1/admin/users", headers=admin, params={"limit": 1})).json()
        rest = (await http.get("/v1/admin/users", headers=admin, params={"after": page["last_id"]})).json()
        assert page["has_more"]
        assert {user["email"] for user in [*page["data"], *rest["data"]]} == {EMAIL, "bob@example.org"}
        path = f"/v1/admin/users/{bob['user']['id']}"
        changed = (await http.post(path, headers=admin, json={"plan": "enterprise", "suspended": True})).json()
        assert (changed["plan"], changed["suspended"]) == ("enterprise", True)
        while (await http.get("/v1/auth/me", headers=mortal)).status_code != 401:
            pass
        login = {"email": "bob@example.org", "password": PASSWORD}
        assert code_of(await http.post("/v1/auth/login", json=login)) == (403, "account_suspended")
        assert code_of(await http.post(path, headers=admin, json={"plan": "no such"})) == (400, "invalid_value")
        own = f"/v1/admin/users/{ann['user']['id']}"
        assert code_of(await http.post(own, headers=admin, json={"roles": ["user"]})) == (409, "last_resort")
        assert code_of(await http.post("/v1/admin/users/ada", headers=admin, json={})) == (404, "user_not_found")


async def test_too_many_logins_are_refused_with_the_time_to_wait() -> None:
    async with edge() as (_, http):
        login = {"email": EMAIL, "password": PASSWORD}
        answers = [await http.post("/v1/auth/login", json=login) for _ in range(11)]
        assert [one.status_code for one in answers] == [*[401] * 10, 429]
        assert int(answers[-1].headers["retry-after"]) >= 1


@pytest.mark.parametrize("token", ["a.b.c", "x" * 3000 + ".b.c", "é.b.c".encode().decode("latin-1")])
async def test_what_is_no_access_token_is_refused(token: str) -> None:
    async with edge() as (_, http):
        refused = await http.get("/v1/auth/me", headers={b"authorization": f"Bearer {token}".encode("latin-1")})
        assert code_of(refused) == (401, "invalid_access_token")
