"""A small run of Schemathesis; ``make conformance`` is the long one, on the real stack."""

import httpx2
import pytest

from producers.http.openapi import complete
from tests.conformance.schemathesis_run import Target, Wish, run
from tests.unit.ingest.edge_world import KEY, running_edge

# The other phases make thousands of cases whatever one asks for.
WISH = Wish(cases=200, seconds_max=170.0, phases="fuzzing", seed=7)


@pytest.mark.timeout(180)
async def test_every_answer_is_documented() -> None:
    async with running_edge() as edge:
        known = {"model": "turnstream-fast", "model_id": "turnstream-fast"}
        outcome = await run(Target(edge.url, KEY.text, known), WISH, shown=False)
    assert not outcome.failures, outcome.output
    assert outcome.cases >= WISH.cases


async def test_every_operation_tells_the_errors_that_any_can_meet() -> None:
    async with running_edge() as edge, httpx2.AsyncClient(base_url=edge.url) as client:
        document = (await client.get("/openapi.json")).json()
    operations = [one for path in document["paths"].values() for one in path.values()]
    assert all({"400", "431", "500", "503"} <= set(one["responses"]) for one in operations)
    assert all("401" in one["responses"] for one in operations if one["security"])
    assert "$defs" not in str(document)
    assert "HTTPValidationError" not in str(document)


def test_a_route_may_need_no_key() -> None:
    document = complete(
        {
            "paths": {
                "/v1/open": {"post": {"security": [], "responses": {"200": {}}, "requestBody": {}}},
                "/v1/keyed": {"get": {"responses": {"200": {}, "422": {"description": "Ours."}}}},
                "/healthz": {"get": {"responses": {"200": {}}}},
            }
        }
    )
    found = {path: set(next(iter(methods.values()))["responses"]) for path, methods in document["paths"].items()}
    assert found["/v1/open"] == {"200", "400", "408", "413", "431", "500", "503"}
    assert found["/v1/keyed"] == {"200", "400", "401", "422", "431", "500", "503"}
    assert "401" not in found["/healthz"]
