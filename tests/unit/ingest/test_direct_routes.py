"""Routes that FastAPI only documents: who answers, and what becomes of a failure."""

import json
from typing import Any

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from producers.http.direct import DirectRoutes
from producers.http.exchange import HttpExchanges
from producers.http.refused import RequestRefused
from schemas.errors import OutcomeUnknown, RecordTooLarge, Retryable, unavailable
from tests.unit.ingest.edge_world import FakeMetrics

PATH = "/v1/turns"
HEAD = {"type": "http.response.start", "status": 200, "headers": []}


def raising(error: Exception, *first: Message) -> ASGIApp:
    async def write(_scope: Scope, _receive: Receive, send: Send) -> None:
        for message in first:
            await send(message)
        raise error

    return write


async def ask(write: ASGIApp, sent: list[Message], method: str = "POST", path: str = PATH) -> FakeMetrics:
    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    metrics = FakeMetrics()
    app = HttpExchanges(DirectRoutes(PlainTextResponse("all others"), {PATH: write}), metrics, lambda: 0.0, bytes)
    await app({"type": "http", "method": method, "path": path, "headers": []}, receive, send)
    return metrics


def error_of(sent: list[Message]) -> tuple[int, Any]:
    return sent[0]["status"], json.loads(sent[1]["body"])["error"]["code"]


async def test_an_exact_post_is_answered_and_counted_by_its_path() -> None:
    sent: list[Message] = []
    metrics = await ask(PlainTextResponse("direct"), sent)
    assert sent[1]["body"] == b"direct"
    assert list(metrics.counts) == [("turnstream_http_requests_total", (("route", PATH), ("status", "200")))]


@pytest.mark.parametrize(("method", "path"), [("GET", PATH), ("POST", PATH + "/"), ("POST", "/v1")])
async def test_all_others_are_answered_by_the_application(method: str, path: str) -> None:
    sent: list[Message] = []
    await ask(PlainTextResponse("direct"), sent, method, path)
    assert sent[1]["body"] == b"all others"


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (RequestRefused(unavailable("Later.", "later")), 503, "later"),
        (RecordTooLarge("x"), 413, "request_too_large"),
        (OutcomeUnknown("x"), 503, "outcome_unknown"),
        (Retryable("x"), 503, "dependency_unavailable"),
    ],
)
async def test_a_foreseen_failure_is_answered(error: Exception, status: int, code: str) -> None:
    sent: list[Message] = []
    await ask(raising(error), sent)
    assert error_of(sent) == (status, code)


async def test_a_bug_is_answered_and_raised() -> None:
    sent: list[Message] = []
    with pytest.raises(KeyError):
        await ask(raising(KeyError("x")), sent)
    assert error_of(sent) == (500, "internal_error")


@pytest.mark.parametrize("error", [Retryable("x"), KeyError("x")])
async def test_a_failure_behind_the_head_is_raised_alone(error: Exception) -> None:
    sent: list[Message] = []
    with pytest.raises(type(error)):
        await ask(raising(error, HEAD), sent)
    assert [message["type"] for message in sent] == ["http.response.start"]
