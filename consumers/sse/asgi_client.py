"""The client at the other end of an ASGI response: it may leave, and it may read too slowly."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from consumers.sse.heads import Headers
from schemas.ports import ClientChannel


class AsgiClient:
    """Writes one response. ``serve`` is called once, the write methods from within it."""

    __slots__ = ("_cut", "_link", "_loop", "_send", "_write_seconds_max", "_writing_since_s", "cut_reason")

    def __init__(self, channel: ClientChannel, write_seconds_max: float) -> None:
        self._send, self._link = channel
        self._write_seconds_max = write_seconds_max
        self._loop = asyncio.get_running_loop()
        self._cut = asyncio.timeout(None)
        self._writing_since_s: float | None = None
        self.cut_reason: str | None = None

    @property
    def ready(self) -> bool:
        """Whether ``write_piece`` may be called."""
        return self._link.ready

    async def serve(self, respond: Coroutine[Any, Any, None]) -> None:
        """Run ``respond`` to its end, or until the client is gone or too slow: then ``cut_reason`` says which."""
        try:
            async with self._cut:
                self._link.on_gone = self._leave
                if self._link.gone:
                    self._leave()
                await respond
        except TimeoutError:
            # A TimeoutError that is not the cut is a bug below and must not pass for a client's fault.
            if self.cut_reason is None:
                raise
        finally:
            self._link.on_gone = None

    def cut_if_slow(self, now_s: float) -> None:
        """End the response if one write has lasted too long; ``now_s`` is the event loop's time.

        Called by a ticker: a timer for each write would cost as much as the write.
        """
        since_s = self._writing_since_s
        if since_s is not None and now_s - since_s > self._write_seconds_max:
            self._end("slow")

    def head(self, status: int, headers: Headers) -> Coroutine[Any, Any, None]:
        """Write the status line and the headers."""
        return self._bounded_send({"type": "http.response.start", "status": status, "headers": headers})

    def body(self, body: bytes, *, more: bool) -> Coroutine[Any, Any, None]:
        """Write a piece of the body; the last one with ``more`` False."""
        return self._bounded_send({"type": "http.response.body", "body": body, "more_body": more})

    def write_piece(self, piece: bytes) -> None:
        """Write a piece of the body, not the last one, without waiting; only while ``ready``."""
        self._link.write_piece(piece)

    async def whole(self, status: int, headers: Headers, body: bytes) -> None:
        """Write a whole response."""
        await self.head(status, headers)
        await self.body(body, more=False)

    async def _bounded_send(self, message: dict[str, Any]) -> None:
        self._writing_since_s = self._loop.time()
        try:
            await self._send(message)
        finally:
            self._writing_since_s = None

    def _leave(self) -> None:
        self._end("disconnected")

    def _end(self, reason: str) -> None:
        if self.cut_reason is None:
            self.cut_reason = reason
            self._cut.reschedule(self._loop.time())
