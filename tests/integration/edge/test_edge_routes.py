"""What the routes say on the wire, beyond what the SDK shows."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import httpx2
import pytest

from producers.ingest.core import IngestSettings
from schemas import headers, ids
from schemas.accounts import Account, Credential
from schemas.content import Content
from schemas.messages import Message, Role
from schemas.ports import Owner, StoredMessage
from schemas.topics import TURNS_SUBMITTED
from tests.unit.ingest.edge_world import ACCOUNT, KEY, OTHER_KEY, SSE, EdgeWorld, Stages, running_edge, until

CONVERSATION = ids.new_conversation_id(1, bytes(10))
ITEMS = f"/v1/conversations/{CONVERSATION}/items"
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TURN = {"model": "turnstream-fast", "messages": [{"role": "user", "content": "Hello?"}]}


def http(edge: EdgeWorld, key: str = KEY.text) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=edge.url, headers={"authorization": f"Bearer {key}"}, timeout=10)


def stored(message_seq: int, role: Role, text: str, *, complete: bool = True) -> StoredMessage:
    return StoredMessage(message_seq, "0" * 26, Message(role=role, content=Content(text)), complete, 1_700_000_000_123)


def with_history(edge: EdgeWorld) -> None:
    edge.history.store(
        Owner(ACCOUNT.tenant_id, ACCOUNT.user_id),
        CONVERSATION,
        stored(1, Role.USER, "one"),
        stored(2, Role.ASSISTANT, "two"),
        stored(3, Role.USER, "three"),
        stored(4, Role.ASSISTANT, "fo", complete=False),
    )


def error_of(response: httpx2.Response) -> tuple[int, str | None]:
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert response.headers["x-request-id"]
    return response.status_code, error["code"]


async def test_items_are_pages_of_openai() -> None:
    async with running_edge() as edge, http(edge) as client:
        with_history(edge)
        newest = (await client.get(ITEMS, params={"limit": 3})).json()
        rest = (await client.get(ITEMS, params={"after": newest["last_id"]})).json()
        oldest = (await client.get(ITEMS, params={"order": "asc", "limit": 2})).json()
    assert [item["id"] for item in newest["data"]] == ["msg_4", "msg_3", "msg_2"]
    assert (newest["object"], newest["has_more"], newest["first_id"]) == ("list", True, "msg_4")
    assert [item["status"] for item in newest["data"]] == ["incomplete", "completed", "completed"]
    assert ([item["id"] for item in rest["data"]], rest["has_more"]) == (["msg_1"], False)
    assert oldest["data"][0] == {
        "id": "msg_1",
        "type": "message",
        "role": "user",
        "status": "completed",
        "content": [{"type": "input_text", "text": "one"}],
        "turn_id": "0" * 26,
        "parent_id": None,
        "created_at": 1_700_000_000,
    }
    assert oldest["data"][1]["content"] == [{"type": "output_text", "text": "two", "annotations": [], "logprobs": []}]
    assert oldest["data"][1]["parent_id"] == "msg_1"


async def test_items_of_others_are_not_there() -> None:
    async with running_edge() as edge, http(edge, OTHER_KEY.text) as other, http(edge) as owner:
        with_history(edge)
        unknown = ids.new_conversation_id(2, bytes(10))
        answers = [
            await other.get(ITEMS),
            await owner.get(f"/v1/conversations/{unknown}/items"),
            await owner.get("/v1/conversations/nonsense/items"),
        ]
    assert {error_of(answer) for answer in answers} == {(404, "conversation_not_found")}
    assert len({answer.text for answer in answers}) == 1


@pytest.mark.parametrize("query", [{"limit": 0}, {"limit": 101}, {"limit": "x"}, {"order": "up"}, {"after": "msg_x"}])
async def test_a_bad_page_is_400(query: dict[str, Any]) -> None:
    async with running_edge() as edge, http(edge) as client:
        with_history(edge)
        assert error_of(await client.get(ITEMS, params=query)) == (400, "invalid_value")


async def test_unknown_routes_and_methods_have_openais_shape() -> None:
    async with running_edge() as edge, http(edge) as client:
        assert error_of(await client.get("/v1/secrets")) == (404, "unknown_url")
        assert error_of(await client.put("/v1/chat/completions")) == (405, "method_not_allowed")
    assert edge.metrics.counts["turnstream_http_requests_total", (("route", "unmatched"), ("status", "404"))] == 1


async def test_health_and_readiness() -> None:
    async with running_edge() as edge, http(edge) as client:
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/readyz")).status_code == 200
        assert (await client.get("/metrics")).text == "turnstream_up 1\n"
        edge.admission.close()
        assert (await client.get("/readyz")).status_code == 503
        assert (await client.get("/healthz")).status_code == 200


async def test_the_api_describes_itself() -> None:
    async with running_edge() as edge, http(edge) as client:
        paths = (await client.get("/openapi.json")).json()["paths"]
    assert set(paths) >= {
        "/v1/chat/completions",
        "/v1/chat/completions/{completion_id}/cancel",
        "/v1/chat/completions/{completion_id}/stream",
        "/v1/models",
        "/v1/models/{model_id}",
        "/v1/moderations",
        "/v1/organization/costs",
        "/v1/organization/usage/completions",
        "/v1/conversations",
        "/v1/conversations/{conversation_id}",
        "/v1/conversations/{conversation_id}/export",
        "/v1/conversations/{conversation_id}/items",
        "/v1/conversations/{conversation_id}/items/{item_id}",
        "/v1/conversations/{conversation_id}/items/{item_id}/edit",
        "/v1/conversations/{conversation_id}/items/{item_id}/regenerate",
        "/healthz",
        "/readyz",
    }
    turn = paths["/v1/chat/completions"]["post"]
    assert "messages" in turn["requestBody"]["content"]["application/json"]["schema"]["properties"]


async def test_the_clients_trace_is_on_the_record() -> None:
    async with running_edge() as edge, http(edge) as client:
        await client.post("/v1/chat/completions", json=TURN, headers={"traceparent": TRACEPARENT})
        await client.post("/v1/chat/completions", json=TURN, headers={"traceparent": "nonsense"})
    by_turn = {headers.header(one.headers, headers.TURN): one for one in edge.log.records(TURNS_SUBMITTED.name)}
    given, made = (by_turn[event.turn.turn_id] for event in edge.submitted)
    assert headers.header(given.headers, headers.TRACEPARENT) == TRACEPARENT
    assert (headers.header(made.headers, headers.TRACEPARENT) or "").startswith("00-")
    assert given.key == edge.submitted[0].turn.conversation_id.encode()
    assert KEY.text.encode() not in given.value


async def test_any_content_type_will_do() -> None:
    async with running_edge() as edge, http(edge) as client:
        body = httpx2.Request("POST", edge.url, json=TURN).content
        answer = await client.post("/v1/chat/completions", content=body, headers={"content-type": "text/plain"})
    assert answer.status_code == 200


@pytest.mark.parametrize("client_id", [b"x" * 513, b"\xc3\xa4"])
async def test_a_bad_client_request_id_is_400(client_id: bytes) -> None:
    async with running_edge() as edge, http(edge) as client:
        answer = await client.get("/healthz", headers=[(b"x-client-request-id", client_id)])
        assert error_of(answer) == (400, "invalid_client_request_id")
        fine = await client.get("/healthz", headers={"x-client-request-id": "x" * 512})
        assert fine.status_code == 200


async def test_a_request_without_a_key_is_told_so() -> None:
    async with running_edge() as edge, httpx2.AsyncClient(base_url=edge.url) as client:
        for path in ("/v1/models", ITEMS):
            answer = await client.get(path)
            assert error_of(answer) == (401, "invalid_api_key")
            assert "did not provide" in answer.json()["error"]["message"]
        assert error_of(await client.post("/v1/chat/completions", json=TURN)) == (401, "invalid_api_key")
    labels = (("code", "invalid_api_key"), ("stage", "edge"))
    assert edge.metrics.counts["turnstream_refusals_total", labels] == 1


async def test_a_store_that_is_down_is_503() -> None:
    async with running_edge() as edge, http(edge) as client:
        edge.keys.down = True
        answer = await client.get("/v1/models")
    assert error_of(answer) == (503, "dependency_unavailable")
    assert answer.headers["retry-after"] == "1"


async def test_a_bug_is_a_500_that_tells_nothing() -> None:
    async with running_edge() as edge, http(edge) as client:

        async def broken(credentials: Sequence[Credential]) -> Mapping[str, Account]:
            del credentials
            raise KeyError("secret detail")

        with_history(edge)
        edge.keys.accounts = broken  # type: ignore[method-assign]
        answer = await client.get(ITEMS)
    assert error_of(answer) == (500, "internal_error")
    assert "secret" not in answer.text


async def test_a_dribbled_body_is_408_and_the_connection_closes() -> None:
    async with running_edge(ingest=IngestSettings(body_seconds_max=0.05)) as edge:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(edge.url.rsplit(":", 1)[1]))
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n"
            b"authorization: Bearer " + KEY.text.encode() + b"\r\n\r\n{"
        )
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
    assert answer.startswith(b"HTTP/1.1 408 ")


async def test_silence_is_filled_with_comments_only_after_the_head() -> None:
    settings = SSE.model_copy(update={"heartbeat_seconds": 0.02})
    async with (
        running_edge(Stages.clear, sse=settings) as edge,
        http(edge) as client,
        client.stream("POST", "/v1/chat/completions", json=TURN | {"stream": True}) as answer,
    ):
        lines = answer.aiter_lines()
        first = await anext(lines)
        while await anext(lines) != ": ping":
            pass
        edge.stages[0].finish()
        rest = [line async for line in lines]
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert first.startswith("data: {")
    assert [line for line in rest if line.startswith("data:")][-1] == "data: [DONE]"
    assert not any(line.startswith("id:") for line in rest)


async def test_another_edges_turn_is_cancelled_by_its_log() -> None:
    async with running_edge(Stages.clear) as edge, http(edge) as client, http(edge, OTHER_KEY.text) as other:
        turn = await _foreign_turn(edge)
        path = f"/v1/chat/completions/chatcmpl-{turn.turn.turn_id}/cancel"
        assert error_of(await other.post(path)) == (404, "completion_not_found")
        assert (await client.post(path)).json()["cancelled"] is True
        await until(lambda: b'"cancelled"' in edge.log.records("chat.tokens.v1")[-1].value)
        for unknown in ("nonsense", "chatcmpl-" + "0" * 26):
            answer = await client.post(f"/v1/chat/completions/{unknown}/cancel")
            assert error_of(answer) == (404, "completion_not_found")


async def _foreign_turn(edge: EdgeWorld) -> Stages:
    """A turn on a partition that this edge does not read."""
    async with http(edge) as client, client.stream("POST", "/v1/chat/completions", json=TURN | {"stream": True}):
        own = edge.submitted[0].turn
    foreign = own.model_copy(update={"turn_id": ids.new_turn_id(own.submitted_at_ms, 2, bytes(8))})
    stages = Stages(edge.log, foreign)
    stages.clear()
    return stages
