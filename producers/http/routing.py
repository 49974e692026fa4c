"""What routes are made of, beside FastAPI's own."""

from typing import Any

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from schemas.errors import ErrorBody


class AsgiResponse(Response):
    """A response that an ASGI callable writes, on the request's own channels."""

    def __init__(self, write: ASGIApp) -> None:
        super().__init__()
        self._write = write

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the callable answer."""
        await self._write(scope, receive, send)


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI description of the errors that a route answers with."""
    schema = {"type": "object", "properties": {"error": ErrorBody.model_json_schema()}, "required": ["error"]}
    content = {"application/json": {"schema": schema}}
    return {status: {"description": "OpenAI's error object.", "content": content} for status in statuses}


def json_body(schema: dict[str, Any], *, required: bool = True) -> dict[str, Any]:
    """The OpenAPI description of a body that the route reads by itself, within its bounds (``openapi_extra``)."""
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}}
