"""The routes of Conversations."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from producers.conversations.items import ITEMS_DEFAULT, ITEMS_MAX, page_of, parse_item_id
from producers.http.routing import error_responses
from producers.ingest.stage import Ingest


def conversation_routes(ingest: Ingest) -> APIRouter:
    """What is stored of conversations, to their owners."""
    router = APIRouter(tags=["Conversations"])

    @router.get(
        "/v1/conversations/{conversation_id}/items",
        summary="List the messages of a conversation",
        responses=error_responses(400, 401, 404, 503),
    )
    async def list_items(
        conversation_id: str,
        request: Request,
        limit: Annotated[int, Query(ge=1, le=ITEMS_MAX)] = ITEMS_DEFAULT,
        order: Literal["asc", "desc"] = "desc",
        after: str | None = None,
    ) -> Response:
        messages = await ingest.conversation_page(
            request.headers, conversation_id, limit, parse_item_id(after), newest_first=order == "desc"
        )
        return JSONResponse(page_of(messages, limit))

    return router
