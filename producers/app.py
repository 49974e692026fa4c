"""The HTTP routes of the edge, as a FastAPI application behind ``HttpExchanges``."""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Final, Literal

from fastapi import FastAPI, Header, Query
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from producers.chat_completions.request import ChatRequest
from producers.conversations.items import ITEMS_DEFAULT, ITEMS_MAX, page_of, parse_item_id
from producers.documentation.routes import documentation_routes
from producers.http.errors import install_error_handlers
from producers.http.exchange import TURN_ROUTE, HttpExchanges
from producers.ingest.admission import Admission
from producers.ingest.core import IngestSettings, find_model
from producers.ingest.ports import IngestPorts
from producers.ingest.resuming import Resumption
from producers.ingest.stage import Ingest
from schemas import models
from schemas.errors import ErrorBody
from schemas.models import ModelCard

API_VERSION: Final = "1"


def make_app(
    ports: IngestPorts,
    settings: IngestSettings,
    *,
    pepper: bytes,
    tokens_partitions: int,
    admission: Admission,
    ready: Callable[[], bool],
    metrics_page: ASGIApp,
) -> HttpExchanges:
    """The edge's ASGI application.

    ``pepper`` keys the hashes of API keys; ``tokens_partitions`` is the partition count of ``chat.tokens.v1``;
    ``ready`` says whether this process proves to read what it writes; ``metrics_page`` answers ``/metrics``.
    """
    # FastAPI's documentation pages load scripts from a content delivery network: ours is `documentation_routes`.
    app = FastAPI(title="Turnstream", version=API_VERSION, redirect_slashes=False, docs_url=None, redoc_url=None)
    install_error_handlers(app)
    ingest = Ingest(ports, settings, pepper=pepper, tokens_partitions=tokens_partitions, admission=admission)
    _add_turns(app, ingest)
    _add_models(app, ingest, settings)
    _add_conversations(app, ingest)
    _add_operations(app, lambda: ready() and not admission.closed, metrics_page)
    app.include_router(documentation_routes())
    return HttpExchanges(app, ports.metrics, ports.monotonic_s, ports.entropy)


class AsgiResponse(Response):
    """A response that an ASGI callable writes, on the request's own channels."""

    def __init__(self, write: ASGIApp) -> None:
        super().__init__()
        self._write = write

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the callable answer."""
        await self._write(scope, receive, send)


def _add_turns(app: FastAPI, ingest: Ingest) -> None:
    # The body is read by ingest within its bounds, so FastAPI must not see it; the schema is told by hand.
    body = {"required": True, "content": {"application/json": {"schema": ChatRequest.model_json_schema()}}}

    @app.post(
        TURN_ROUTE,
        summary="Ask a model, streamed or whole",
        openapi_extra={"requestBody": body},
        responses={
            200: {"description": "The answer.", "content": {"application/json": {}, "text/event-stream": {}}},
            **_errors(400, 401, 403, 404, 408, 409, 413, 422, 429, 503, 504),
        },
    )
    async def create_completion() -> Response:
        return AsgiResponse(ingest.create_completion)

    @app.get(
        TURN_ROUTE + "/{completion_id}/stream",
        summary="Pick an answer up again, during the turn or after it",
        responses={
            200: {"description": "What comes after the given place.", "content": {"text/event-stream": {}}},
            204: {"description": "Nothing comes after the `Last-Event-ID`."},
            **_errors(401, 404, 503),
        },
    )
    async def resume_completion(
        completion_id: str,
        starting_after: Annotated[str | None, Query(description="A cursor, or the number of a piece.")] = None,
        include_usage: bool = False,  # noqa: FBT001, FBT002 - a query parameter
        last_event_id: Annotated[str | None, Header()] = None,
    ) -> Response:
        asked = Resumption(completion_id, starting_after, last_event_id, include_usage)
        return AsgiResponse(partial(ingest.resume_completion, asked))

    @app.post(TURN_ROUTE + "/{completion_id}/cancel", summary="Stop an answer", responses=_errors(401, 404, 503))
    async def cancel_completion(completion_id: str, request: Request) -> Response:
        return JSONResponse(await ingest.cancel(request.headers, completion_id))


def _add_models(app: FastAPI, ingest: Ingest, settings: IngestSettings) -> None:
    catalogue = models.by_id(settings.models)

    @app.get("/v1/models", summary="List the models", responses=_errors(401, 503))
    async def list_models(request: Request) -> Response:
        await ingest.account(request.headers)
        return JSONResponse({"object": "list", "data": [_model(card) for card in catalogue.values()]})

    @app.get("/v1/models/{model_id}", summary="Show a model", responses=_errors(401, 404, 503))
    async def show_model(model_id: str, request: Request) -> Response:
        await ingest.account(request.headers)
        return JSONResponse(_model(find_model(model_id, catalogue)))


def _add_conversations(app: FastAPI, ingest: Ingest) -> None:
    @app.get(
        "/v1/conversations/{conversation_id}/items",
        summary="List the messages of a conversation",
        responses=_errors(400, 401, 404, 503),
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


def _add_operations(app: FastAPI, ready: Callable[[], bool], metrics_page: ASGIApp) -> None:
    @app.get("/healthz", summary="Whether the process is alive")
    async def healthz() -> Response:
        return JSONResponse({"status": "ok"})

    @app.get("/readyz", summary="Whether this process takes turns and reads what it writes")
    async def readyz() -> Response:
        return JSONResponse({"status": "ready"}) if ready() else JSONResponse({"status": "not ready"}, 503)

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return AsgiResponse(metrics_page)


def _model(card: ModelCard) -> dict[str, Any]:
    return {"id": card.id, "object": "model", "created": card.created, "owned_by": card.owned_by}


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    schema = {"type": "object", "properties": {"error": ErrorBody.model_json_schema()}, "required": ["error"]}
    content = {"application/json": {"schema": schema}}
    return {status: {"description": "OpenAI's error object.", "content": content} for status in statuses}
