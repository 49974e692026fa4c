"""Responses that end when their credential loses its access, whoever writes them."""

import asyncio
import json
from collections.abc import Awaitable
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from producers.http.callers import Callers
from producers.http.errors import error_response
from producers.http.exchange import exchange_of, link_of
from producers.http.open_access import OpenAccess, Watch
from schemas.errors import Refusal, access_lost

_DISCONNECT: Final = {"type": "http.disconnect"}
_EVENT_STREAM: Final = b"text/event-stream"
_RESPONSES_ROUTE: Final = "/v1/responses"


class RevocableResponses:
    """ASGI middleware.

    To the application the loss looks as if the client had left, so that what becomes of its turn is decided in one
    place. The client gets an error frame, or a 401 where no head was sent. An answer that the application did not wait
    for passes: who logs out loses the access by the very request, and hears that it was done.
    """

    def __init__(self, app: ASGIApp, callers: Callers, access: OpenAccess) -> None:
        self._app = app
        self._callers = callers
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        credential = None
        if scope["type"] == "http":
            credential = self._callers.credential_or_none(Headers(scope=scope))
            exchange_of(scope).credential = credential
        if credential is None:
            await self._app(scope, receive, send)
            return
        with self._access.watch(credential) as watch:
            response = _Response(watch, scope, receive, send)
            await self._app(scope, response.receive, response.send)
            await response.end()


class _Response:
    """One response and its client's side."""

    __slots__ = ("_begun", "_on_lost", "_over", "_receive", "_scope", "_send", "_streams", "_told", "_watch")

    def __init__(self, watch: Watch, scope: Scope, receive: Receive, send: Send) -> None:
        link = link_of(scope)
        self._watch = watch
        self._on_lost = watch.on_lost = None if link is None else link.leave
        self._scope = scope
        self._receive = receive
        self._send = send
        self._told = False
        self._streams = False
        self._begun = False
        self._over = False

    async def receive(self) -> Message:
        """The next message of the client, or its leave when the access was lost."""
        if self._watch.lost is not None:
            return self._tell()
        waiting = asyncio.current_task()
        if waiting is None:
            raise RuntimeError("a response is written by a task")
        self._watch.on_lost = waiting.cancel
        try:
            return await self._receive()
        except asyncio.CancelledError:
            # Cancelled by the loss alone, it goes on; by anybody else too, it ends.
            if self._watch.lost is None or waiting.uncancel():
                raise
            return self._tell()
        finally:
            self._watch.on_lost = self._on_lost

    def _tell(self) -> Message:
        self._told = True
        return dict(_DISCONNECT)

    def send(self, message: Message) -> Awaitable[None]:
        """Pass on what the application writes, as long as it may be read."""
        if message["type"] == "http.response.start":
            self._streams = _is_event_stream(message)
        if self._over or self._watch.lost is not None:
            return self._send_late(message)
        return self._pass(message)

    async def _send_late(self, message: Message) -> None:
        if self._watch.lost is not None and (self._streams or (self._told and not self._begun)):
            await self.end()
        if not self._over:
            await self._pass(message)

    def _pass(self, message: Message) -> Awaitable[None]:
        self._begun = True
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self._over = True
        return self._send(message)

    async def end(self) -> None:
        """Tell the client why its response ends, if it was the access and nothing else."""
        if self._watch.lost is None or self._over:
            return
        self._over = True
        refusal = access_lost(self._watch.lost)
        if not self._begun:
            await error_response(refusal)(self._scope, self._receive, self._send)
        elif self._streams:
            frame = _error_frame(refusal, self._scope["path"])
            await self._send({"type": "http.response.body", "body": frame, "more_body": False})


def _is_event_stream(head: Message) -> bool:
    return any(name == b"content-type" and value.startswith(_EVENT_STREAM) for name, value in head.get("headers", ()))


def _error_frame(refusal: Refusal, path: str) -> bytes:
    """The error as the last event of a stream, as the clients of that API read it."""
    error = refusal.error.model_dump(mode="json")
    if path.startswith(_RESPONSES_ROUTE):
        event = {"type": "error", "code": error["code"], "message": error["message"], "param": None}
        return b"event: error\ndata: " + json.dumps(event).encode() + b"\n\n"
    return b"data: " + json.dumps({"error": error}).encode() + b"\n\n"
