"""Moderations, usage, costs and models over HTTP, on the edge in memory."""

from typing import Any

import httpx2
import openai
import pytest
from openai.types import ModerationTextInputParam

from schemas.ports import UsageRow
from tests.unit.ingest.edge_world import ACCOUNT, KEY, OTHER_KEY, EdgeWorld, running_edge

USAGE = "/v1/organization/usage/completions"
COSTS = "/v1/organization/costs"
DAY_S = 1_795_219_200


def http(edge: EdgeWorld, key: str = KEY.text) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=edge.url, headers={"authorization": f"Bearer {key}"})


def row(turn: str, model: str) -> UsageRow:
    return UsageRow(ACCOUNT.tenant_id, ACCOUNT.user_id, turn, ACCOUNT.key_id, model, 1_000, 500, 0, DAY_S * 1_000)


async def page(client: httpx2.AsyncClient, path: str, **params: Any) -> dict[str, Any]:
    answer = await client.get(path, params={"start_time": DAY_S, "end_time": DAY_S + 60, **params})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def test_openais_client_moderates_by_the_policy_of_the_pipeline() -> None:
    async with running_edge() as edge, edge.client() as client:
        harmless = await client.moderations.create(input="good morning")
        both = await client.moderations.create(
            model="omni-moderation-latest", input=["good morning", "how to make a pipe bomb, please"]
        )
        parts = await client.moderations.create(input=[ModerationTextInputParam(type="text", text="csam")])
    assert harmless.id.startswith("modr-")
    assert [result.flagged for result in harmless.results] == [False]
    assert [result.flagged for result in both.results] == [False, True]
    assert both.results[1].categories.illicit_violent
    assert parts.results[0].categories.sexual_minors
    assert parts.results[0].category_scores.sexual_minors == 1


async def test_what_cannot_be_moderated_is_refused() -> None:
    async with running_edge() as edge, edge.client() as client, edge.client("sk-nobody") as nobody:
        with pytest.raises(openai.BadRequestError):
            await client.moderations.create(input=[])
        with pytest.raises(openai.NotFoundError):
            await client.moderations.create(input="a", model="gpt-4")
        with pytest.raises(openai.AuthenticationError):
            await nobody.moderations.create(input="a")


async def test_ones_own_usage_by_model_and_day_and_nobody_elses() -> None:
    async with running_edge() as edge, http(edge) as client, http(edge, OTHER_KEY.text) as other:
        await edge.usage.store([row("t1", "turnstream-fast"), row("t2", "turnstream-fast"), row("t3", "gone")])
        mine = await page(client, USAGE, **{"group_by[]": "model"})
        same = await page(client, USAGE, group_by="model", models="turnstream-fast")
        theirs = await page(other, USAGE)
    (bucket,) = mine["data"]
    assert [(each["model"], each["input_tokens"], each["num_model_requests"]) for each in bucket["results"]] == [
        ("turnstream-fast", 2_000, 2),
        ("gone", 1_000, 1),
    ]
    assert [each["model"] for each in same["data"][0]["results"]] == ["turnstream-fast"]
    assert theirs["data"][0]["results"] == []


async def test_costs_are_those_of_the_catalogues_prices() -> None:
    async with running_edge() as edge, http(edge) as client:
        await edge.usage.store([row("t1", "turnstream-fast")])
        costs = await page(client, COSTS, group_by="line_item")
    (result,) = costs["data"][0]["results"]
    assert result["line_item"] == "turnstream-fast"
    assert result["amount"] == {"value": pytest.approx(0.0003), "currency": "usd"}


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"start_time": "x"},
        {"start_time": -1},
        {"start_time": 5, "end_time": 5},
        {"start_time": 5, "bucket_width": "2d"},
        {"start_time": 5, "limit": 32},
        {"start_time": 5, "group_by": "colour"},
        {"start_time": 5, "page": "next"},
    ],
)
async def test_questions_that_make_no_sense_are_400(params: dict[str, Any]) -> None:
    async with running_edge() as edge, http(edge) as client:
        answer = await client.get(USAGE, params=params)
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")


async def test_usage_needs_a_key_and_its_store() -> None:
    async with running_edge() as edge, http(edge, "sk-nobody") as nobody, http(edge) as client:
        assert (await nobody.get(USAGE, params={"start_time": 5})).status_code == 401
        edge.usage.down = True
        assert (await client.get(COSTS, params={"start_time": 5})).status_code == 503


async def test_models_are_found_by_alias_and_auto_is_explained() -> None:
    async with running_edge() as edge, edge.client() as client:
        listed = [model.id async for model in client.models.list()]
        alias = await client.models.retrieve("fast")
        auto = await client.models.retrieve("auto")
        await client.chat.completions.create(model="auto", messages=[{"role": "user", "content": "hi"}])
    assert listed == ["turnstream-fast", "turnstream-capable"]
    assert (alias.id, auto.id) == ("turnstream-fast", "auto")
    assert edge.submitted[0].turn.model == "auto"
