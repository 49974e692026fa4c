"""The route of Moderations."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from fastapi import APIRouter
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from producers.http.body import read_body
from producers.http.callers import Callers
from producers.http.refused import RequestRefused
from producers.http.routing import error_responses, json_body
from producers.http.validation import explain
from producers.moderations.core import MODELS, ModerationRequest, groups_of, result_of
from schemas.errors import model_not_found
from schemas.ports import InputPolicy

ID_ENTROPY_BYTES: Final = 16


def moderation_routes(
    callers: Callers,
    policy: InputPolicy,
    entropy: Callable[[int], bytes],
    *,
    body_bytes_max: int,
    body_seconds_max: float,
) -> APIRouter:
    """The policy of the pipeline, for texts that are no turn."""
    router = APIRouter(tags=["Moderations"])

    def judge(request: ModerationRequest) -> list[dict[str, Any]]:
        return [result_of(policy.judge_input(texts)) for texts in groups_of(request)]

    @router.post(
        "/v1/moderations",
        summary="Judge texts by the policy that holds for turns",
        openapi_extra=json_body(ModerationRequest.model_json_schema()),
        responses=error_responses(400, 401, 404, 408, 413, 503),
    )
    async def create_moderation(request: Request) -> Response:
        await callers.account(request.headers)
        body = await read_body(request.headers, request.receive, body_bytes_max, body_seconds_max)
        asked = _parse(body)
        # A large text takes the rules a while: other clients' streams must not wait for it.
        results = await asyncio.to_thread(judge, asked)
        return JSONResponse(
            {
                "id": f"modr-{entropy(ID_ENTROPY_BYTES).hex()}",
                "model": asked.model or MODELS[0],
                "results": results,
                "policy_version": policy.version,
            }
        )

    return router


def _parse(body: bytes) -> ModerationRequest:
    try:
        asked = ModerationRequest.model_validate_json(body)
    except ValidationError as error:
        raise RequestRefused(explain(error)) from None
    if asked.model is not None and asked.model not in MODELS:
        raise RequestRefused(model_not_found(asked.model))
    return asked
