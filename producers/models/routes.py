"""The routes of Models."""

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from producers.http.callers import Callers
from producers.http.pages import Listed
from producers.http.refused import RequestRefused
from producers.http.routing import error_responses
from producers.models.answers import Model
from producers.models.core import find, shown
from schemas.errors import model_not_found
from schemas.models import Catalogue, ModelCard
from schemas.plans import Plan, plan_of


def model_routes(callers: Callers, cards: tuple[ModelCard, ...], plans: Mapping[str, Plan]) -> APIRouter:
    """The models that whoever asks may use."""
    router = APIRouter(tags=["Models"])
    catalogue = Catalogue.of(cards)

    async def models_of(request: Request) -> list[dict[str, Any]]:
        account = await callers.account(request.headers)
        return shown(account, plan_of(plans, account.plan), catalogue)

    @router.get(
        "/v1/models",
        summary="List the models that you may use",
        responses={200: {"model": Listed[Model]}, **error_responses(401, 503)},
    )
    async def list_models(request: Request) -> Response:
        return JSONResponse({"object": "list", "data": await models_of(request)})

    @router.get(
        "/v1/models/{model_id}",
        summary="Show a model",
        responses={200: {"model": Model}, **error_responses(401, 404, 503)},
    )
    async def show_model(model_id: str, request: Request) -> Response:
        model = find(model_id, await models_of(request))
        if model is None:
            raise RequestRefused(model_not_found(model_id))
        return JSONResponse(model)

    return router
