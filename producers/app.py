"""The edge's HTTP API: one FastAPI application of all routes, behind ``HttpExchanges``."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from producers.accounts.accounts_api import AccountsApi
from producers.chat_completions.routes import chat_completion_routes, understand
from producers.chat_completions.stored import StoredCompletions
from producers.conversations.core import ConversationsSettings
from producers.conversations.ports import ConversationPorts
from producers.conversations.routes import conversation_routes
from producers.conversations.stage import Conversations
from producers.documentation.routes import documentation_routes
from producers.http.direct import DirectRoutes
from producers.http.errors import install_error_handlers
from producers.http.exchange import TURN_ROUTE, HttpExchanges
from producers.http.openapi import DescribedApi
from producers.http.revocable import RevocableResponses
from producers.http.routing import AsgiResponse
from producers.ingest.admission import Admission
from producers.ingest.core import IngestSettings
from producers.ingest.ports import IngestPorts
from producers.ingest.stage import Ingest
from producers.models.routes import model_routes
from producers.moderations.routes import moderation_routes
from producers.responses.routes import ROUTE as RESPONSES_ROUTE
from producers.responses.routes import response_routes
from producers.responses.stage import Responses
from producers.usage.routes import usage_routes

API_VERSION: Final = "1"


def make_app(
    ports: IngestPorts,
    settings: IngestSettings,
    *,
    accounts: AccountsApi,
    stores: ConversationPorts,
    conversation_settings: ConversationsSettings,
    pepper: bytes,
    tokens_partitions: int,
    admission: Admission,
    ready: Callable[[], bool],
    metrics_page: ASGIApp,
) -> HttpExchanges:
    """The edge's ASGI application.

    ``stores`` are those of the conversations API; ``pepper`` keys cursors and the hashes of idempotency keys;
    ``tokens_partitions`` is the partition count of ``chat.tokens.v1``; ``ready`` says whether this process proves to
    read what it writes; ``metrics_page`` answers ``/metrics``.
    """
    callers = accounts.callers
    ingest = Ingest(
        ports, settings, callers=callers, pepper=pepper, tokens_partitions=tokens_partitions, admission=admission
    )
    conversations = Conversations(ingest, ports, stores, settings=conversation_settings, bodies=settings)
    responses = Responses(ingest, ports)
    turns: dict[str, ASGIApp] = {
        TURN_ROUTE: partial(ingest.take_turn, understand),
        RESPONSES_ROUTE: partial(ingest.take_turn, responses.understand),
    }
    app = _application(
        [
            chat_completion_routes(turns[TURN_ROUTE], ingest, StoredCompletions(ingest, ports)),
            response_routes(turns[RESPONSES_ROUTE], ingest, responses),
            model_routes(callers, settings.models, settings.plans),
            moderation_routes(
                callers,
                ports.policy,
                ports.entropy,
                body_bytes_max=settings.body_bytes_max,
                body_seconds_max=settings.body_seconds_max,
            ),
            usage_routes(callers, ports.usage, settings.models, ports.now_ms),
            *accounts.routers,
            conversation_routes(conversations, ingest),
            documentation_routes(),
            _operation_routes(lambda: ready() and not admission.closed, metrics_page),
        ]
    )
    revocable = RevocableResponses(DirectRoutes(app, turns), callers, accounts.open_access)
    return HttpExchanges(revocable, ports.metrics, ports.monotonic_s, ports.entropy)


def _application(routers: Iterable[APIRouter]) -> DescribedApi:
    # FastAPI's documentation pages load scripts from a content delivery network: ours is `documentation_routes`.
    app = DescribedApi(title="Turnstream", version=API_VERSION, redirect_slashes=False, docs_url=None, redoc_url=None)
    install_error_handlers(app)
    for router in routers:
        app.include_router(router)
    return app


def _operation_routes(ready: Callable[[], bool], metrics_page: ASGIApp) -> APIRouter:
    router = APIRouter(tags=["Operations"])

    @router.get("/healthz", summary="Whether the process is alive")
    async def healthz() -> Response:
        return JSONResponse({"status": "ok"})

    @router.get("/readyz", summary="Whether this process takes turns and reads what it writes")
    async def readyz() -> Response:
        return JSONResponse({"status": "ready"}) if ready() else JSONResponse({"status": "not ready"}, 503)

    @router.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return AsgiResponse(metrics_page)

    return router
