"""Every failure as OpenAI's error object, whoever found it: our code, the router or a bug."""

from typing import Final

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from producers.http.refused import RequestRefused
from producers.http.validation import refusal_of
from schemas.errors import (
    ErrorBody,
    ErrorType,
    OutcomeUnknown,
    RecordTooLarge,
    Refusal,
    Retryable,
    invalid_request,
    server_error,
    unavailable,
)

FORESEEN: Final = (RequestRefused, RecordTooLarge, Retryable)
_METHOD_NOT_ALLOWED: Final = 405
_LOG: Final = structlog.get_logger(__name__)
_OUTCOME_UNKNOWN_RETRY_S: Final = 2
# Answered before the whole body was read: whoever still sends may not hold the connection.
_BODY_UNREAD: Final = frozenset({408, 413})


def error_response(refusal: Refusal) -> Response:
    """``refusal`` as a response, with ``Retry-After`` where waiting helps."""
    headers = {}
    if refusal.retry_after_s is not None:
        headers["retry-after"] = str(refusal.retry_after_s)
    if refusal.status in _BODY_UNREAD:
        headers["connection"] = "close"
    if refusal.error.active_turn_id is not None:
        # OpenAI's clients repeat a 409 at once, as if it were a lock: here it is a whole answer.
        headers["x-should-retry"] = "false"
    return JSONResponse({"error": refusal.error.model_dump(mode="json")}, refusal.status, headers)


def outcome_unknown() -> Refusal:
    """503: the turn may or may not be on the log; only time or a retry will tell."""
    return unavailable(
        "The request may or may not have been accepted. Retry after the given time.",
        code="outcome_unknown",
        retry_after_s=_OUTCOME_UNKNOWN_RETRY_S,
    )


def body_too_large() -> Refusal:
    """413: the body, or the record it becomes, exceeds its limit."""
    return invalid_request("The request body is too large.", code="request_too_large", status=413)


def failure_response(error: Exception) -> Response:
    """What a request is answered that ``error`` ended; whatever is none of ``FORESEEN`` is a bug."""
    name = type(error).__name__
    match error:
        case RequestRefused():
            return error_response(error.refusal)
        case OutcomeUnknown():
            _LOG.warning("append_outcome_unknown", error=name)
            return error_response(outcome_unknown())
        case RecordTooLarge():
            return error_response(body_too_large())
        case Retryable():
            _LOG.warning("dependency_unavailable", error=name)
            return error_response(
                unavailable("A dependency does not answer. Retry shortly.", code="dependency_unavailable")
            )
        case _:
            _LOG.error("request_failed", error=name)
            return error_response(server_error("The server failed to answer this request."))


def install_error_handlers(app: FastAPI) -> None:
    """Make ``app`` answer every exception in OpenAI's shape."""
    for foreseen in FORESEEN:
        app.exception_handler(foreseen)(_failed)
    app.exception_handler(RequestValidationError)(_bad_query)
    app.exception_handler(HTTPException)(_no_route)
    app.exception_handler(Exception)(_failed)


async def _failed(_request: Request, error: Exception) -> Response:
    return failure_response(error)


async def _bad_query(_request: Request, error: RequestValidationError) -> Response:
    problem = error.errors()[0]
    param = str(problem["loc"][-1])
    return error_response(refusal_of(problem["type"], problem["msg"], param))


async def _no_route(request: Request, error: HTTPException) -> Response:
    known = {
        404: invalid_request("Unknown request URL.", code="unknown_url", status=404),
        405: invalid_request("This URL does not accept this HTTP method.", code="method_not_allowed", status=405),
    }
    fallback = Refusal(
        status=error.status_code,
        error=ErrorBody(message="The request cannot be answered.", type=ErrorType.INVALID_REQUEST),
    )
    response = error_response(known.get(error.status_code, fallback))
    response.headers.update(error.headers or {})
    if error.status_code == _METHOD_NOT_ALLOWED:
        response.headers["allow"] = ", ".join(_methods(request))
    return response


def _methods(request: Request) -> list[str]:
    """The methods of this URL: each has a route of its own, and the error knows that of one."""
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    return sorted(
        {method for route in routes if route.path_regex.match(request.url.path) for method in route.methods or ()}
    )
