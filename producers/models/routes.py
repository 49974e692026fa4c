"""The routes of Models."""

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from producers.http.callers import Callers
from producers.http.routing import error_responses
from producers.ingest.core import find_model
from schemas import models
from schemas.models import ModelCard


def model_routes(callers: Callers, cards: tuple[ModelCard, ...]) -> APIRouter:
    """The catalogue, to whoever has an account."""
    router = APIRouter(tags=["Models"])
    catalogue = models.by_id(cards)

    @router.get("/v1/models", summary="List the models", responses=error_responses(401, 503))
    async def list_models(request: Request) -> Response:
        await callers.account(request.headers)
        return JSONResponse({"object": "list", "data": [_model(card) for card in catalogue.values()]})

    @router.get("/v1/models/{model_id}", summary="Show a model", responses=error_responses(401, 404, 503))
    async def show_model(model_id: str, request: Request) -> Response:
        await callers.account(request.headers)
        return JSONResponse(_model(find_model(model_id, catalogue)))

    return router


def _model(card: ModelCard) -> dict[str, Any]:
    return {"id": card.id, "object": "model", "created": card.created, "owned_by": card.owned_by}
