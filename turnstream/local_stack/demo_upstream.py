"""A small OpenAI-compatible server that gives the demonstration model's answers, where Triton cannot run.

``python -m turnstream.local_stack.demo_upstream --port 8010``. It serves ``POST /v1/chat/completions`` (stream or
not) and ``GET /v1/models``, and knows vLLM's ``continue_final_message``. What it says is decided by the one copy
of ``demo_answer.py``, in the Triton model repository; see there for the ``[[demo ...]]`` directive.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import sys
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

import typer
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from turnstream.local_stack.errors import ProvisioningError
from turnstream.local_stack.layout import checkout_root
from turnstream.local_stack.ports import LOOPBACK

MODEL: Final = "turnstream-demo"
ANSWER_FILE: Final = "docker/triton/models/ensemble/1/demo_answer.py"
COMPLETION_TOKENS_DEFAULT: Final = 4_096
BODY_BYTES_MAX: Final = 4_000_000
DRAIN_S_MAX: Final = 2
_STATUS: Final = {"unavailable": 503, "invalid": 400}
_TYPE: Final = {"unavailable": "service_unavailable_error", "invalid": "invalid_request_error"}


class BrokenRequestError(Exception):
    """The request is not one that we can answer; the message is for the client."""


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer under way: ``plan`` is a ``demo_answer.Plan``."""

    id: str
    created: int
    plan: Any
    with_usage: bool

    def usage(self) -> dict[str, int]:
        """OpenAI's usage object."""
        done = len(self.plan.tokens)
        prompt = self.plan.prompt_tokens
        return {"prompt_tokens": prompt, "completion_tokens": done, "total_tokens": prompt + done}

    def chunk(self, choices: list[dict[str, Any]], usage: dict[str, int] | None = None) -> str:
        """One SSE frame."""
        body: dict[str, Any] = {
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": MODEL,
            "choices": choices,
        }
        if self.with_usage:
            body["usage"] = usage
        return _frame(body)


def create_app(environ: Mapping[str, str]) -> Starlette:
    """The server. Raises ProvisioningError when the model repository is not there."""
    demo_answer = _load_demo_answer()
    pace = demo_answer.server_pace({}, environ)

    async def complete(request: Request) -> Response:
        try:
            body = await _body(request)
            conversation = demo_answer.Conversation(*_conversation(body))
            limit = body.get("max_completion_tokens") or body.get("max_tokens") or COMPLETION_TOKENS_DEFAULT
            plan = demo_answer.plan_answer(conversation, int(limit), _stop_words(body), pace)
        except (BrokenRequestError, AttributeError, KeyError, TypeError, ValueError) as error:
            return _error("invalid", str(error) if isinstance(error, BrokenRequestError) else "malformed request")
        options = body.get("stream_options")
        with_usage = isinstance(options, dict) and bool(options.get("include_usage"))
        completion = Completion(f"chatcmpl-{uuid.uuid4().hex}", int(time.time()), plan, with_usage)
        if plan.error is not None and plan.error_at == 0:
            return _error(plan.error, "asked for by the prompt")
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


def _load_demo_answer() -> Any:
    # One copy, inside the model repository, because that folder must work alone on a Triton host.
    path = checkout_root() / ANSWER_FILE
    spec = importlib.util.spec_from_file_location("turnstream_demo_answer", path)
    if spec is None or spec.loader is None or not path.is_file():
        message = f"no {ANSWER_FILE} here: run from a checkout of the repository"
        raise ProvisioningError(message)
    module = importlib.util.module_from_spec(spec)
    # dataclasses look their module up by name while it is being executed.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


async def _stream(completion: Completion) -> AsyncIterator[str]:
    plan = completion.plan
    yield completion.chunk([_choice({"role": "assistant", "content": ""})])
    started = time.monotonic()
    for index, token in enumerate(plan.tokens):
        if plan.error is not None and index >= plan.error_at:
            yield _frame({"error": _error_body(plan.error, "asked for by the prompt")})
            return
        await asyncio.sleep(max(0.0, started + plan.due_ms(index) / 1000 - time.monotonic()))
        yield completion.chunk([_choice({"content": token})])
    yield completion.chunk([_choice({}, plan.finish_reason)])
    if completion.with_usage:
        yield completion.chunk([], completion.usage())
    yield "data: [DONE]\n\n"


async def _whole(completion: Completion) -> Response:
    plan = completion.plan
    await asyncio.sleep(plan.due_ms(len(plan.tokens)) / 1000)
    if plan.error is not None and plan.error_at < len(plan.tokens):
        return _error(plan.error, "asked for by the prompt")
    message = {"role": "assistant", "content": "".join(plan.tokens), "refusal": None}
    return JSONResponse(
        {
            "id": completion.id,
            "object": "chat.completion",
            "created": completion.created,
            "model": MODEL,
            "choices": [{"index": 0, "message": message, "finish_reason": plan.finish_reason, "logprobs": None}],
            "usage": completion.usage(),
        }
    )


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


def _conversation(body: Mapping[str, Any]) -> tuple[tuple[tuple[str, str], ...], str]:
    messages = [(str(message["role"]), _text(message.get("content"))) for message in body["messages"]]
    if body.get("continue_final_message") and messages[-1][0] == "assistant":
        return tuple(messages[:-1]), messages[-1][1]
    return tuple(messages), ""


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content)
    return content if isinstance(content, str) else ""


def _stop_words(body: Mapping[str, Any]) -> tuple[str, ...]:
    stop = body.get("stop") or ()
    return (stop,) if isinstance(stop, str) else tuple(map(str, stop))


def _choice(delta: dict[str, str], finish_reason: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}


def _frame(body: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(body, separators=(',', ':'))}\n\n"


def _error(kind: str, message: str) -> Response:
    return JSONResponse({"error": _error_body(kind, message)}, status_code=_STATUS[kind])


def _error_body(kind: str, message: str) -> dict[str, str | None]:
    return {"message": message, "type": _TYPE[kind], "param": None, "code": None}


if __name__ == "__main__":
    typer.run(main)
