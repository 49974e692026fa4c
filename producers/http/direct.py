"""Routes whose answers are streams, reached without the layers that FastAPI puts around each message."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from producers.http.errors import FORESEEN, failure_response
from producers.http.exchange import exchange_of

_POST: Final = "POST"


@dataclass(frozen=True, slots=True)
class _Route:
    """What ``scope["route"]`` is asked for."""

    path: str
    write: ASGIApp


class DirectRoutes:
    """ASGI middleware: ``posts`` answers POST requests by their exact path, and ``app`` all others.

    ``app`` has the same routes too, or nobody would find them in its documentation.
    """

    def __init__(self, app: ASGIApp, posts: Mapping[str, ASGIApp]) -> None:
        self._app = app
        self._posts = {path: _Route(path, write) for path, write in posts.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; a bug is answered too, and raised."""
        route = self._posts.get(scope["path"]) if scope["type"] == "http" and scope["method"] == _POST else None
        if route is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = route
        try:
            await route.write(scope, receive, send)
        except Exception as error:
            response, begun = failure_response(error), exchange_of(scope).begun
            if not begun:
                await response(scope, receive, send)
            if begun or not isinstance(error, FORESEEN):
                raise
