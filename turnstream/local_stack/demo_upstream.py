"""A small OpenAI-compatible server that gives the demonstration model's answers, where Triton cannot run.

``python -m turnstream.local_stack.demo_upstream --port 8010``. It serves ``POST /v1/chat/completions`` (stream or
not) and ``GET /v1/models``, and knows vLLM's ``continue_final_message``. What it says is decided by the one copy
of ``demo_answer.py`` in the Triton model repository; see there for the ``[[demo ...]]`` directive.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any, Final

import typer
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from turnstream.local_stack.demo_completion import MODEL, Completion, error_body, frame, plan_choices
from turnstream.local_stack.demo_model import load_demo_model
from turnstream.local_stack.ports import LOOPBACK

BODY_BYTES_MAX: Final = 4_000_000
DRAIN_S_MAX: Final = 2
_STATUS: Final = {"unavailable": 503, "invalid": 400}


class BrokenRequestError(Exception):
    """The request is not one that we can answer; the message is for the client."""


def create_app(environ: Mapping[str, str]) -> Starlette:
    """The server. Raises ProvisioningError when the model repository is not there."""
    model, tools = load_demo_model(), load_demo_model("demo_tools")
    pace = model.server_pace({}, environ)

    async def complete(request: Request) -> Response:
        try:
            body = await _body(request)
            plans = plan_choices(model, tools, body, pace)
        except (BrokenRequestError, AttributeError, KeyError, TypeError, ValueError) as error:
            return _error("invalid", str(error) if isinstance(error, BrokenRequestError) else "malformed request")
        options = body.get("stream_options")
        completion = Completion(
            id=f"chatcmpl-{uuid.uuid4().hex}",
            created=int(time.time()),
            plans=plans,
            model=model,
            with_usage=isinstance(options, dict) and bool(options.get("include_usage")),
            logprobs=int(body.get("top_logprobs") or 0) if body.get("logprobs") else None,
        )
        if completion.error is not None and plans[0].error_at == 0:
            return _error(completion.error, "asked for by the prompt")
        if body.get("stream"):
            return StreamingResponse(_stream(completion), media_type="text/event-stream")
        return await _whole(completion)

    routes = [
        Route("/v1/chat/completions", complete, methods=["POST"]),
        Route("/v1/models", _models, methods=["GET"]),
    ]
    return Starlette(routes=routes)


def main(port: Annotated[int, typer.Option(help="TCP port on the loopback interface.")]) -> None:
    """Serve the demonstration answers until SIGTERM."""
    uvicorn.run(
        create_app(os.environ),
        host=LOOPBACK,
        port=port,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=DRAIN_S_MAX,
    )


async def _stream(completion: Completion) -> AsyncIterator[str]:
    plan = completion.plans[0]
    for begun in completion.begin():
        yield begun
    started = time.monotonic()
    for index in range(max(len(one.tokens) for one in completion.plans)):
        if completion.error is not None and index >= plan.error_at:
            yield frame({"error": error_body(completion.error, "asked for by the prompt")})
            return
        await asyncio.sleep(max(0.0, started + plan.due_ms(index) / 1000 - time.monotonic()))
        for said in completion.frames(index):
            yield said
    for last in completion.end():
        yield last


async def _whole(completion: Completion) -> Response:
    tokens = max(len(plan.tokens) for plan in completion.plans)
    await asyncio.sleep(completion.plans[0].due_ms(tokens) / 1000)
    if completion.error is not None and completion.plans[0].error_at < tokens:
        return _error(completion.error, "asked for by the prompt")
    return JSONResponse(completion.whole())


async def _models(_request: Request) -> Response:
    return JSONResponse(
        {"object": "list", "data": [{"id": MODEL, "object": "model", "created": 0, "owned_by": "turnstream"}]}
    )


async def _body(request: Request) -> dict[str, Any]:
    raw = bytearray()
    async for part in request.stream():
        raw += part
        if len(raw) > BODY_BYTES_MAX:
            raise BrokenRequestError("the body is too large")
    body = json.loads(raw)
    if not isinstance(body, dict) or not isinstance(body.get("messages"), list) or not body["messages"]:
        raise BrokenRequestError("messages must be a list with at least one message")
    return body


def _error(kind: str, message: str) -> Response:
    return JSONResponse({"error": error_body(kind, message)}, status_code=_STATUS[kind])


if __name__ == "__main__":
    typer.run(main)
