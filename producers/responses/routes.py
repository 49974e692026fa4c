"""The routes of Responses."""

from functools import partial
from typing import Annotated, Final

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from producers.http.pages import Page
from producers.http.paging import LIMIT_DEFAULT, LIMIT_MAX, Order, page
from producers.http.routing import AsgiResponse, error_responses, json_body
from producers.ingest.resuming import Resumption
from producers.ingest.stage import Ingest
from producers.responses.answers import DeletedResponse, InputItem, ResponseObject
from producers.responses.request import ResponseRequest
from producers.responses.stage import API, Responses

ROUTE: Final = "/v1/responses"
_ONE: Final = ROUTE + "/{response_id}"
_JSON: Final = "application/json"


def response_routes(take_turn: ASGIApp, ingest: Ingest, responses: Responses) -> APIRouter:
    """Responses: made by ``take_turn``, read, streamed again, stopped, deleted."""
    router = APIRouter(tags=["Responses"])
    _add_creation(router, take_turn)
    _add_reading(router, ingest, responses)
    _add_ending(router, responses)
    return router


def _add_creation(router: APIRouter, take_turn: ASGIApp) -> None:
    @router.post(
        ROUTE,
        summary="Ask a model for a response, streamed, whole or in the background",
        openapi_extra=json_body(ResponseRequest.model_json_schema()),
        responses={
            200: {"model": ResponseObject, "description": "The response.", "content": {"text/event-stream": {}}},
            **error_responses(403, 404, 409, 422, 429, 502, 504),
        },
    )
    async def create_response() -> Response:
        return AsgiResponse(take_turn)


def _add_reading(router: APIRouter, ingest: Ingest, responses: Responses) -> None:
    @router.get(
        _ONE,
        summary="Read a response, or stream it, from any of its events on",
        responses={
            200: {"model": ResponseObject, "description": "The response.", "content": {"text/event-stream": {}}},
            **error_responses(404),
        },
    )
    async def show_response(
        response_id: str,
        request: Request,
        stream: bool = False,  # noqa: FBT001, FBT002 - a query parameter
        starting_after: Annotated[
            int | None, Query(ge=0, le=10**9, description="The last event that you have.")
        ] = None,
    ) -> Response:
        if stream:
            after = None if starting_after is None else str(starting_after)
            return AsgiResponse(partial(ingest.resume_completion, Resumption(response_id, after, api=API)))
        return Response(await responses.show(request.headers, response_id), media_type=_JSON)

    @router.get(
        _ONE + "/input_items",
        summary="List what the response was asked with",
        responses={200: {"model": Page[InputItem]}, **error_responses(404, 409)},
    )
    async def list_input_items(
        response_id: str,
        request: Request,
        limit: Annotated[int, Query(ge=1, le=LIMIT_MAX)] = LIMIT_DEFAULT,
        order: Order = "desc",
        after: str | None = None,
    ) -> Response:
        items = await responses.input_items(request.headers, response_id)
        return JSONResponse(page(items, limit=limit, after=after, order=order))


def _add_ending(router: APIRouter, responses: Responses) -> None:
    @router.post(
        _ONE + "/cancel",
        summary="Stop a response",
        responses={200: {"model": ResponseObject}, **error_responses(404)},
    )
    async def cancel_response(response_id: str, request: Request) -> Response:
        return Response(await responses.cancel(request.headers, response_id), media_type=_JSON)

    @router.delete(
        _ONE, summary="Delete a response", responses={200: {"model": DeletedResponse}, **error_responses(404, 409)}
    )
    async def delete_response(response_id: str, request: Request) -> Response:
        return JSONResponse(await responses.delete(request.headers, response_id))
