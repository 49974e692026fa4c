"""What every response carries: its id, its time and OpenAI's version; and that it is counted."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from producers.http.errors import error_response
from schemas.accounts import Credential
from schemas.errors import invalid_request
from schemas.ports import CLIENT_LINK, ClientLink, Metrics

OPENAI_VERSION: Final = b"2020-10-01"
REQUEST_ENTROPY_BYTES: Final = 16
CLIENT_REQUEST_ID_CHARS_MAX: Final = 512
TURN_ROUTE: Final = "/v1/chat/completions"

_EXCHANGE: Final = "turnstream.exchange"
_CLIENT_REQUEST_ID: Final = "x-client-request-id"
_UNMATCHED: Final = "unmatched"


@dataclass(slots=True)
class Exchange:
    """One request and its response.

    ``turn_id`` is the turn's public id once there is a turn; ``replayed``: another request made that turn.
    ``credential``: the caller's, if the request brings a well-formed one; ``begun``: the head of the response is sent.
    """

    started_s: float
    turn_id: str | None = None
    replayed: bool = False
    credential: Credential | None = None
    begun: bool = False


def exchange_of(scope: Scope) -> Exchange:
    """The exchange of a request that came through ``HttpExchanges``."""
    exchange: Exchange = scope[_EXCHANGE]
    return exchange


def link_of(scope: Scope) -> ClientLink | None:
    """The link to the client, if the server has one."""
    link: ClientLink | None = scope.get("extensions", {}).get(CLIENT_LINK)
    return link


class HttpExchanges:
    """ASGI middleware, outermost, so that no response escapes it: not even that of a bug."""

    def __init__(
        self, app: ASGIApp, metrics: Metrics, monotonic_s: Callable[[], float], entropy: Callable[[int], bytes]
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._monotonic_s = monotonic_s
        self._entropy = entropy

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Answer one request."""
        if scope["type"] != "http":
            return self._app(scope, receive, send)
        scope[_EXCHANGE] = Exchange(self._monotonic_s())
        app = self._app if _client_request_id_is_valid(Headers(scope=scope)) else _CLIENT_REQUEST_ID_REFUSED
        return app(scope, receive, partial(self._send_stamped, scope, send))

    def _send_stamped(self, scope: Scope, send: Send, message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            self._stamp(scope, message)
        return send(message)

    def _stamp(self, scope: Scope, head: Message) -> None:
        exchange = exchange_of(scope)
        exchange.begun = True
        seconds = self._monotonic_s() - exchange.started_s
        request_id = exchange.turn_id or f"req_{self._entropy(REQUEST_ENTROPY_BYTES).hex()}"
        head["headers"] = [
            *head.get("headers", ()),
            (b"x-request-id", request_id.encode()),
            (b"openai-processing-ms", str(round(seconds * 1000)).encode()),
            (b"openai-version", OPENAI_VERSION),
        ]
        if exchange.replayed:
            head["headers"].append((b"idempotent-replayed", b"true"))
        route = _route(scope)
        self._metrics.count("turnstream_http_requests_total", route=route, status=str(head["status"]))
        if route == TURN_ROUTE:
            self._metrics.observe("turnstream_http_head_seconds", seconds)


def _route(scope: Scope) -> str:
    # The template, not the path: a path holds ids, and there are as many as a client cares to invent.
    route: Any = scope.get("route")
    return getattr(route, "path", None) or _UNMATCHED


def _client_request_id_is_valid(headers: Headers) -> bool:
    client_id = headers.get(_CLIENT_REQUEST_ID, "")
    return client_id.isascii() and len(client_id) <= CLIENT_REQUEST_ID_CHARS_MAX


_CLIENT_REQUEST_ID_REFUSED: Final = error_response(
    invalid_request(
        f"X-Client-Request-Id must be ASCII and have at most {CLIENT_REQUEST_ID_CHARS_MAX} characters.",
        code="invalid_client_request_id",
    )
)
