"""A body or a query that does not fit is told so in the terms of JSON, and the parameter has its name."""

from typing import Annotated

import httpx2
import pytest
from fastapi import FastAPI, Query
from pydantic import BaseModel, Field, StringConstraints

from producers.http.errors import install_error_handlers
from producers.http.refused import RequestRefused
from producers.http.validation import parse_body
from schemas.errors import ErrorBody


class Body(BaseModel):
    """Bounds of every kind that Python has a word of its own for."""

    items: Annotated[tuple[str, ...], Field(min_length=1, max_length=2)] | None = None
    names: Annotated[list[str], Field(min_length=1)] | None = None
    bias: Annotated[dict[Annotated[str, StringConstraints(pattern="^[0-9]$")], int], Field(max_length=1)] | None = None
    text: Annotated[str, Field(min_length=1)] = "x"


def told(body: str) -> ErrorBody:
    with pytest.raises(RequestRefused) as refused:
        parse_body(Body, body.encode())
    return refused.value.refusal.error


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('{"items": []}', "Invalid value for 'items': Array should have at least 1 item, not 0."),
        ('{"items": ["a", "b", "c"]}', "Invalid value for 'items': Array should have at most 2 items, not 3."),
        ('{"names": []}', "Invalid value for 'names': Array should have at least 1 item, not 0."),
        ('{"bias": {"1": 1, "2": 2}}', "Invalid value for 'bias': Object should have at most 1 item, not more."),
        ('{"text": ""}', "Invalid value for 'text': String should have at least 1 character."),
        ('{"text": 1}', "Invalid value for 'text': Input should be a valid string."),
    ],
)
def test_bounds_are_told_in_the_terms_of_json(body: str, message: str) -> None:
    assert told(body).message == message


def test_a_key_that_does_not_fit_has_the_path_of_the_key() -> None:
    assert told('{"bias": {"a": 1}}').param == "bias.a"


async def test_a_parameter_that_is_missing_in_the_query_is_missing_and_not_wrong() -> None:
    app = FastAPI()
    install_error_handlers(app)

    @app.get("/")
    async def route(start_time: Annotated[int, Query()]) -> int:
        return start_time

    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://edge.test") as client:
        absent, wrong = await client.get("/"), await client.get("/?start_time=x")
    assert (absent.status_code, absent.json()["error"]) == (
        400,
        {
            "message": "Missing required parameter: 'start_time'.",
            "type": "invalid_request_error",
            "param": "start_time",
            "code": "missing_required_parameter",
        },
    )
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (400, "invalid_value")
