"""Requests that come again with their key: to the same edge, to another, at once and much later."""

import asyncio
from typing import Any

import httpx2
import pytest

from producers.ingest.core import IngestSettings
from producers.ingest.idempotency import KeyHasher
from schemas import ids, serde
from schemas.errors import server_error
from schemas.events import Turn, TurnSubmitted
from schemas.ports import TurnClaim
from schemas.topics import TURNS_SUBMITTED
from tests.unit.ingest.edge_world import (
    ACCOUNT,
    KEY,
    OTHER_KEY,
    PEPPER,
    EdgeWorld,
    Stages,
    answer_hello,
    running_edge,
    until,
)

PATH = "/v1/chat/completions"
TURN = {"model": "turnstream-fast", "messages": [{"role": "user", "content": "Hello?"}], "stream": True}
# As long as the tests wait for the evidence of a turn whose edge died.
INGEST = IngestSettings(claim_evidence_seconds_max=0.05)


def http(edge: EdgeWorld, key: str = KEY.text) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=edge.url, headers={"authorization": f"Bearer {key}"}, timeout=10)


def joined(edge: EdgeWorld) -> dict[str, float]:
    return {
        dict(labels)["outcome"]: count
        for (name, labels), count in edge.metrics.counts.items()
        if name == "turnstream_turns_joined_total"
    }


async def post(edge: EdgeWorld, idempotency_key: str = "k", user: str = KEY.text, **changed: Any) -> httpx2.Response:
    async with http(edge, user) as client:
        return await client.post(PATH, json=TURN | changed, headers={"idempotency-key": idempotency_key})


@pytest.mark.parametrize("store", [True, False])
@pytest.mark.parametrize("stream", [True, False])
async def test_a_repetition_gets_the_same_bytes_at_any_edge(*, store: bool, stream: bool) -> None:
    async with running_edge() as one, running_edge(beside=one) as two:
        answers = [await post(edge, store=store, stream=stream) for edge in (one, one, two)]
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert len({answer.headers["x-request-id"] for answer in answers}) == 1
    assert [answer.headers.get("idempotent-replayed") for answer in answers] == [None, "true", "true"]
    assert len(one.submitted) + len(two.submitted) == 1
    assert (joined(one), joined(two)) == ({"joined": 1}, {"joined": 1})


async def test_many_at_once_are_one_turn() -> None:
    async with running_edge(lambda _: None) as one, running_edge(lambda _: None, beside=one) as two:
        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(post(edge)) for edge in (one, two, one, two, one, two)]
            await until(lambda: len(one.stages) + len(two.stages) == 1)
            answer_hello((one.stages + two.stages)[0])
        answers = [task.result() for task in asked]
    assert len({answer.content for answer in answers}) == 1
    assert len(one.submitted) + len(two.submitted) == 1
    assert sum("idempotent-replayed" in answer.headers for answer in answers) == 5


async def test_x_request_id_is_a_key_too() -> None:
    async with running_edge() as edge, http(edge) as client:
        first, again = [await client.post(PATH, json=TURN, headers={"x-request-id": "r"}) for _ in range(2)]
        assert first.content == again.content
        mine = await client.post(PATH, json=TURN, headers={"x-request-id": "r", "idempotency-key": "k"})
        assert mine.headers["x-request-id"] != first.headers["x-request-id"]
        refused = await client.post(PATH, json=TURN, headers={"x-request-id": "x" * 256})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_idempotency_key")


async def test_another_body_under_the_key_is_422_and_another_user_has_keys_of_their_own() -> None:
    async with running_edge() as edge:
        first = await post(edge)
        other_body = await post(edge, temperature=0.5)
        other_user = await post(edge, user=OTHER_KEY.text)
    assert (other_body.status_code, other_body.json()["error"]["code"]) == (422, "idempotency_key_reused")
    assert other_user.headers["x-request-id"] != first.headers["x-request-id"]
    assert joined(edge) == {"mismatch": 1}


async def test_a_request_that_can_never_be_a_turn_claims_nothing() -> None:
    async with running_edge() as edge:
        assert (await post(edge, model="none")).status_code == 404
        assert edge.claims.claims == {}
        assert (await post(edge)).status_code == 200


async def test_a_claim_whose_edge_died_is_submitted_under_its_id() -> None:
    async with running_edge(ingest=INGEST) as edge:
        edge.log.fail_next_append(landing=False)
        lost = await post(edge)
        assert (lost.status_code, lost.json()["error"]["code"]) == (503, "outcome_unknown")
        assert lost.headers["retry-after"]
        (claim,) = edge.claims.claims.values()
        answer = await post(edge)
    assert answer.headers["x-request-id"] == ids.public_turn_id(claim.turn_id)
    assert answer.status_code == 200
    assert joined(edge) == {"resubmitted": 1}
    assert [event.turn.turn_id for event in edge.submitted] == [claim.turn_id]


async def test_an_append_that_landed_after_all_is_joined() -> None:
    async with running_edge(lambda _: None) as edge:
        edge.log.fail_next_append(landing=True)
        assert (await post(edge)).status_code == 503
        (claim,) = edge.claims.claims.values()
        async with asyncio.TaskGroup() as tasks:
            again = tasks.create_task(post(edge))
            await until(lambda: edge.turns.state(claim.turn_id) is not None)
            stages = Stages(edge.log, turn_of(edge))
            answer_hello(stages)
        assert again.result().status_code == 200
    assert joined(edge) == {"joined": 1}
    assert len(edge.log.records(TURNS_SUBMITTED.name)) == 1


def turn_of(edge: EdgeWorld) -> Turn:
    event = serde.decode(TURNS_SUBMITTED, edge.log.records(TURNS_SUBMITTED.name)[-1].value)
    assert isinstance(event, TurnSubmitted)
    return event.turn


async def test_a_turn_that_ended_with_nothing_to_show_is_tried_anew() -> None:
    def fail(stages: Stages) -> None:
        stages.clear()
        stages.fail(server_error("no GPU"))

    async with running_edge(fail) as edge:
        failed = await post(edge)
        assert failed.status_code == 500
        edge.script = answer_hello
        better, again = await post(edge), await post(edge)
    assert (better.status_code, again.content) == (200, better.content)
    assert better.headers["x-request-id"] != failed.headers["x-request-id"]
    assert "idempotent-replayed" not in better.headers
    assert joined(edge) == {"retaken": 1, "joined": 1}


async def test_a_claim_of_yesterday_without_any_trace_is_taken_over() -> None:
    async with running_edge() as edge:
        old = ids.new_turn_id(edge.log.now_ms - 86_400_000, 1, bytes(8))
        await post(edge, "other")
        (made,) = edge.claims.claims.values()
        scope = KeyHasher(PEPPER).scope(ACCOUNT, "k")
        edge.claims.claims[scope] = TurnClaim(old, "conv_" + "0" * 26, 0, made.request_hash)
        answer = await post(edge)
    assert answer.status_code == 200
    assert answer.headers["x-request-id"] != ids.public_turn_id(old)
    assert joined(edge) == {"retaken": 1}


async def test_without_the_store_of_claims_nothing_is_begun() -> None:
    async with running_edge(ingest=INGEST) as edge:
        edge.claims.down = True
        refused = await post(edge)
        assert refused.status_code == 503
        assert refused.headers["retry-after"]
        assert edge.submitted == []
        async with http(edge) as client:
            assert (await client.post(PATH, json=TURN)).status_code == 200
        edge.claims.down, edge.claims.lost = False, 1
        assert (await post(edge)).status_code == 503
        assert (await post(edge)).status_code == 200
    assert joined(edge) == {"resubmitted": 1}
