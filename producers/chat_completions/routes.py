"""The routes of Chat Completions."""

from functools import partial
from typing import Annotated, Final

from fastapi import APIRouter, Header, Query
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from producers.chat_completions.answers import CancelledCompletion, ChatCompletion, DeletedCompletion, StoredMessage
from producers.chat_completions.request import ChatRequest, parse_request, turn_request
from producers.chat_completions.stored import StoredCompletions
from producers.http.exchange import TURN_ROUTE
from producers.http.metadata import MetadataUpdate
from producers.http.pages import Page
from producers.http.paging import LIMIT_DEFAULT, LIMIT_MAX, Order, page
from producers.http.routing import AsgiResponse, error_responses, json_body
from producers.ingest.resuming import Resumption
from producers.ingest.stage import AccountOf, Ingest
from producers.ingest.turn_request import TurnRequest
from schemas.events import CHAT

_ONE: Final = TURN_ROUTE + "/{completion_id}"
_JSON: Final = "application/json"
_EVENT_STREAM: Final = "text/event-stream"


def chat_completion_routes(take_turn: ASGIApp, ingest: Ingest, stored: StoredCompletions) -> APIRouter:
    """Completions: begun by ``take_turn``, picked up again, stopped; and those that are stored."""
    router = APIRouter(tags=["Chat Completions"])
    _add_creation(router, take_turn)
    _add_running(router, ingest)
    _add_stored(router, stored)
    _add_messages(router, stored)
    return router


async def understand(body: bytes, _account_of: AccountOf) -> TurnRequest:
    """The turn that a chat completion request asks for. Raises RequestRefused (400)."""
    return turn_request(parse_request(body))


def _add_creation(router: APIRouter, take_turn: ASGIApp) -> None:
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
        return AsgiResponse(take_turn)


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


def _add_stored(router: APIRouter, stored: StoredCompletions) -> None:
    @router.get(
        TURN_ROUTE,
        summary="List the stored completions",
        description="Also by metadata: `metadata[key]=value`, as often as there are keys.",
        responses={200: {"model": Page[ChatCompletion]}},
    )
    async def list_completions(
        request: Request,
        model: str | None = None,
        limit: Annotated[int, Query(ge=1, le=LIMIT_MAX)] = LIMIT_DEFAULT,
        order: Order = "asc",
        after: str | None = None,
    ) -> Response:
        return JSONResponse(await stored.page(request, model, limit=limit, after=after, order=order))

    @router.get(
        _ONE,
        summary="Show a stored completion",
        responses={200: {"model": ChatCompletion}, **error_responses(404)},
    )
    async def show_completion(completion_id: str, request: Request) -> Response:
        return Response(await stored.show(request.headers, completion_id), media_type=_JSON)

    @router.post(
        _ONE,
        summary="Replace the metadata of a stored completion",
        responses={200: {"model": ChatCompletion}, **error_responses(404)},
        openapi_extra=json_body(MetadataUpdate.model_json_schema()),
    )
    async def update_completion(completion_id: str, request: Request) -> Response:
        return Response(await stored.set_metadata(request, completion_id), media_type=_JSON)

    @router.delete(
        _ONE,
        summary="Delete a stored completion",
        responses={200: {"model": DeletedCompletion}, **error_responses(404)},
    )
    async def delete_completion(completion_id: str, request: Request) -> Response:
        return JSONResponse(await stored.delete(request.headers, completion_id))


def _add_messages(router: APIRouter, stored: StoredCompletions) -> None:
    @router.get(
        _ONE + "/messages",
        summary="List the messages that a stored completion was asked with",
        responses={200: {"model": Page[StoredMessage]}, **error_responses(404)},
    )
    async def list_messages(
        completion_id: str,
        request: Request,
        limit: Annotated[int, Query(ge=1, le=LIMIT_MAX)] = LIMIT_DEFAULT,
        order: Order = "asc",
        after: str | None = None,
    ) -> Response:
        messages = await stored.messages(request.headers, completion_id)
        return JSONResponse(page(messages, limit=limit, after=after, order=order))
