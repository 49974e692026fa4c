"""The routes of Chat Completions."""

from functools import partial
from typing import Annotated, Final

from fastapi import APIRouter, Header, Query
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from producers.chat_completions.answers import CancelledCompletion, ChatCompletion
from producers.chat_completions.request import ChatRequest, parse_request, turn_request
from producers.http.exchange import TURN_ROUTE
from producers.http.routing import AsgiResponse, error_responses, json_body
from producers.ingest.resuming import Resumption
from producers.ingest.stage import AccountOf, Ingest
from producers.ingest.turn_request import TurnRequest
from schemas.events import CHAT

_EVENT_STREAM: Final = "text/event-stream"


def chat_completion_routes(ingest: Ingest) -> APIRouter:
    """Completions: begun, picked up again, stopped."""
    router = APIRouter(tags=["Chat Completions"])
    _add_creation(router, ingest)
    _add_running(router, ingest)
    return router


async def understand(body: bytes, _account_of: AccountOf) -> TurnRequest:
    """The turn that a chat completion request asks for. Raises RequestRefused (400)."""
    return turn_request(parse_request(body))


def _add_creation(router: APIRouter, ingest: Ingest) -> None:
    # The body is read by ingest within its bounds, so FastAPI must not see it; the schema is told by hand.
    @router.post(
        TURN_ROUTE,
        summary="Ask a model, streamed or whole",
        openapi_extra=json_body(ChatRequest.model_json_schema()),
        responses={
            200: {"description": "The answer.", "model": ChatCompletion, "content": {"text/event-stream": {}}},
            **error_responses(400, 401, 403, 404, 408, 409, 413, 422, 429, 503, 504),
        },
    )
    async def create_completion() -> Response:
        return AsgiResponse(partial(ingest.take_turn, understand))


def _add_running(router: APIRouter, ingest: Ingest) -> None:
    @router.get(
        TURN_ROUTE + "/{completion_id}/stream",
        summary="Pick an answer up again, during the turn or after it",
        responses={
            200: {"description": "What comes after the given place.", "content": {"text/event-stream": {}}},
            204: {"description": "Nothing comes after the `Last-Event-ID`."},
            **error_responses(401, 404, 503),
        },
    )
    async def resume_completion(
        completion_id: str,
        starting_after: Annotated[str | None, Query(description="A cursor, or the number of a piece.")] = None,
        include_usage: bool = False,  # noqa: FBT001, FBT002 - a query parameter
        last_event_id: Annotated[str | None, Header()] = None,
        accept: Annotated[str, Header()] = "",
    ) -> Response:
        # OpenAI's clients take an `id:` line for a promise of JSON in every frame; only an EventSource asks for it.
        with_ids = last_event_id is not None or _EVENT_STREAM in accept
        asked = Resumption(completion_id, starting_after, last_event_id, include_usage, with_ids)
        return AsgiResponse(partial(ingest.resume_completion, asked))

    @router.post(
        TURN_ROUTE + "/{completion_id}/cancel",
        summary="Stop an answer",
        responses={200: {"model": CancelledCompletion}, **error_responses(401, 404, 503)},
    )
    async def cancel_completion(completion_id: str, request: Request) -> Response:
        account = await ingest.callers.account(request.headers)
        cancelled = await ingest.cancel(account, CHAT, completion_id)
        return JSONResponse({"id": completion_id, "object": "chat.completion.cancelled", "cancelled": cancelled})
