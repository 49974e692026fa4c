"""The routes of Conversations."""

from functools import partial
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from producers.conversations.answering import body_schema
from producers.conversations.core import (
    ALL_BRANCHES,
    CONVERSATIONS_DEFAULT,
    CONVERSATIONS_MAX,
    QUERY_CHARS_MAX,
    ItemsWish,
    Order,
    PageWish,
)
from producers.conversations.items import ITEMS_DEFAULT, ITEMS_MAX, parse_item_id, parse_item_place
from producers.conversations.stage import ChangeBody, ConversationBody, Conversations, ItemsBody
from producers.http.routing import AsgiResponse, error_responses, json_body
from producers.ingest.stage import AccountOf, Ingest
from producers.ingest.turn_request import TurnRequest

_ALL: Final = "/v1/conversations"
_ONE: Final = _ALL + "/{conversation_id}"
_ITEMS: Final = _ONE + "/items"
_ITEM: Final = _ITEMS + "/{item_id}"
_BODY_ERRORS: Final = (400, 401, 404, 408, 413, 503)
_TURN_ERRORS: Final = (400, 401, 403, 404, 408, 409, 413, 422, 429, 503, 504)


def conversation_routes(conversations: Conversations, ingest: Ingest) -> APIRouter:
    """What is stored of conversations, to their owners."""
    router = APIRouter(tags=["Conversations"])
    _add_conversations(router, conversations)
    _add_changes(router, conversations)
    _add_items(router, conversations)
    _add_answers(router, conversations, ingest)
    return router


def _add_conversations(router: APIRouter, conversations: Conversations) -> None:
    @router.get(_ALL, summary="List your conversations", responses=error_responses(400, 401, 503))
    async def list_conversations(
        request: Request,
        *,
        limit: Annotated[int, Query(ge=1, le=CONVERSATIONS_MAX)] = CONVERSATIONS_DEFAULT,
        order: Annotated[Order, Query(description="`desc`: the last activity first.")] = "desc",
        after: str | None = None,
        before: str | None = None,
        query: Annotated[str | None, Query(max_length=QUERY_CHARS_MAX, description="Words of the title.")] = None,
    ) -> Response:
        wish = PageWish(limit=limit, order=order, after=after, before=before)
        return JSONResponse(await conversations.listed(request.headers, wish, query))

    @router.get(_ONE, summary="Show a conversation", responses=error_responses(401, 404, 503))
    async def show_conversation(conversation_id: str, request: Request) -> Response:
        return JSONResponse(await conversations.show(request.headers, conversation_id))

    @router.get(
        _ONE + "/export",
        summary="Export a conversation",
        responses={
            200: {"description": "The conversation.", "content": {"application/json": {}, "text/markdown": {}}},
            **error_responses(400, 401, 404, 503),
        },
    )
    async def export_conversation(
        conversation_id: str,
        request: Request,
        form: Annotated[Literal["json", "markdown"], Query(alias="format")] = "json",
    ) -> Response:
        markdown = form == "markdown"
        pieces = await conversations.export(request.headers, conversation_id, markdown=markdown)
        return StreamingResponse(pieces, media_type="text/markdown" if markdown else "application/json")


def _add_changes(router: APIRouter, conversations: Conversations) -> None:
    @router.post(
        _ALL,
        summary="Create a conversation",
        openapi_extra=json_body(ConversationBody.model_json_schema(), required=False),
        responses=error_responses(*_TURN_ERRORS),
    )
    async def create_conversation(request: Request) -> Response:
        return JSONResponse(await conversations.create(request))

    @router.post(
        _ONE,
        summary="Rename a conversation, or replace its metadata",
        openapi_extra=json_body(ChangeBody.model_json_schema()),
        responses=error_responses(*_BODY_ERRORS),
    )
    async def change_conversation(conversation_id: str, request: Request) -> Response:
        return JSONResponse(await conversations.change(request, conversation_id))

    @router.delete(_ONE, summary="Delete a conversation", responses=error_responses(401, 404, 503))
    async def delete_conversation(conversation_id: str, request: Request) -> Response:
        return JSONResponse(await conversations.delete(request.headers, conversation_id))


def _add_items(router: APIRouter, conversations: Conversations) -> None:
    @router.get(_ITEMS, summary="List the items of a conversation", responses=error_responses(400, 401, 404, 503))
    async def list_items(
        conversation_id: str,
        request: Request,
        *,
        limit: Annotated[int, Query(ge=1, le=ITEMS_MAX)] = ITEMS_DEFAULT,
        order: Order = "desc",
        after: str | None = None,
        branch: Annotated[
            str | None, Query(description="The last item of a branch, or `all`. Default: the newest item's.")
        ] = None,
    ) -> Response:
        wish = ItemsWish(
            limit=limit,
            order=order,
            after=parse_item_place(after, "after"),
            everywhere=branch == ALL_BRANCHES,
            leaf=None if branch == ALL_BRANCHES else parse_item_id(branch, "branch"),
        )
        return JSONResponse(await conversations.items(request.headers, conversation_id, wish))

    @router.post(
        _ITEMS,
        summary="Add items to a conversation",
        openapi_extra=json_body(ItemsBody.model_json_schema()),
        responses=error_responses(*_TURN_ERRORS),
    )
    async def add_items(conversation_id: str, request: Request) -> Response:
        return JSONResponse(await conversations.add_items(request, conversation_id))

    @router.get(_ITEM, summary="Show an item", responses=error_responses(401, 404, 503))
    async def show_item(conversation_id: str, item_id: str, request: Request) -> Response:
        return JSONResponse(await conversations.item(request.headers, conversation_id, item_id))

    @router.delete(_ITEM, summary="Delete an item", responses=error_responses(401, 404, 503))
    async def delete_item(conversation_id: str, item_id: str, request: Request) -> Response:
        return JSONResponse(await conversations.delete_item(request.headers, conversation_id, item_id))


def _add_answers(router: APIRouter, conversations: Conversations, ingest: Ingest) -> None:
    answer = {"description": "The answer.", "content": {"application/json": {}, "text/event-stream": {}}}

    @router.post(
        _ITEM + "/edit",
        summary="Ask something else in place of an item",
        openapi_extra=json_body(body_schema(content=True)),
        responses={200: answer, **error_responses(*_TURN_ERRORS)},
    )
    async def edit_item(conversation_id: str, item_id: str) -> Response:
        async def understand(body: bytes, account_of: AccountOf) -> TurnRequest:
            return await conversations.edited(conversation_id, item_id, body, account_of)

        return AsgiResponse(partial(ingest.take_turn, understand))

    @router.post(
        _ITEM + "/regenerate",
        summary="Answer an item once more",
        openapi_extra=json_body(body_schema(content=False)),
        responses={200: answer, **error_responses(*_TURN_ERRORS)},
    )
    async def regenerate_item(conversation_id: str, item_id: str) -> Response:
        async def understand(body: bytes, account_of: AccountOf) -> TurnRequest:
            return await conversations.regenerated(conversation_id, item_id, body, account_of)

        return AsgiResponse(partial(ingest.take_turn, understand))
