"""One request and its response on uvicorn's protocol, with fewer writes and a shorter way for pieces of a stream."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

_BODILESS: Final = frozenset({204, 304})
_CONTROLS: Final = frozenset((*range(0x20), 0x7F))
_NAME_FIT: Final = bytes(set(range(256)) - _CONTROLS - set(b'()<>@,;:[]={} \t\\"'))
_VALUE_FIT: Final = bytes(set(range(256)) - _CONTROLS | set(b"\t"))


class ConnectionLink:
    """Implements ``ClientLink`` for one response."""

    __slots__ = ("_flow", "_head", "_loop", "_streams", "_transport", "gone", "on_gone")

    def __init__(self, transport: asyncio.Transport, flow: FlowControl, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._flow = flow
        self._loop = loop
        self._head = b""
        self._streams = False
        self.gone = False
        self.on_gone: Callable[[], object] | None = None

    @property
    def ready(self) -> bool:
        """Whether a piece of the body may be written now."""
        return self._streams and not self.gone and not self._flow.write_paused

    def write_piece(self, piece: bytes) -> None:
        """Write a piece of the body, which is not its last; only while ``ready``."""
        self.write(b"%x\r\n%b\r\n" % (len(piece), piece))

    def leave(self) -> None:
        """The client has left, or is to be taken for gone; only the first call tells."""
        if not self.gone:
            self.gone = True
            if self.on_gone is not None:
                self.on_gone()

    def begin(self, head: bytes, *, streams: bool) -> None:
        """Write the head: with the first of the body, if that comes in the same turn of the event loop."""
        self._head = head
        self._streams = streams
        self._loop.call_soon(self._write_head)

    def write(self, content: bytes) -> None:
        """Write a part of the response as it is."""
        head, self._head = self._head, b""
        self._transport.write(head + content)

    def end(self) -> None:
        """The response is complete."""
        self._streams = False

    def _write_head(self) -> None:
        if self._head and not self._transport.is_closing():
            self.write(b"")


class LinkedCycle(RequestResponseCycle):
    """uvicorn's cycle, whose writes go through ``link``."""

    def __init__(self, *, link: ConnectionLink, **fields: Any) -> None:
        super().__init__(**fields)
        self.link = link

    async def send(self, message: Any) -> None:
        """Take the next ASGI message of the response; waits while the client does not read."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        expected = "http.response.body" if self.response_started else "http.response.start"
        if self.response_complete or message["type"] != expected:
            raise RuntimeError(f"unexpected ASGI message '{message['type']}'")
        if self.response_started:
            self._write_body(message.get("body", b""), more=message.get("more_body", False))
        else:
            self._write_head(message["status"], [*self.default_headers, *message.get("headers", ())])

    def _write_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        _check(headers)
        self.response_started = True
        self.waiting_for_100_continue = False
        closing = False
        for name, value in headers:
            match name.lower():
                case b"content-length" if self.chunked_encoding is None:
                    self.expected_content_length = int(value)
                    self.chunked_encoding = False
                case b"transfer-encoding" if value.lower() == b"chunked":
                    self.expected_content_length = 0
                    self.chunked_encoding = True
                case b"connection" if b"close" in value.lower():
                    closing = True
                    self.keep_alive = False
        lines = [b"%b: %b\r\n" % header for header in headers]
        if not self.keep_alive and not closing:
            lines.append(b"connection: close\r\n")
        bodiless = self.scope["method"] == "HEAD" or status in _BODILESS
        if self.chunked_encoding is None and not bodiless:
            self.chunked_encoding = True
            lines.append(b"transfer-encoding: chunked\r\n")
        head = b"%b%b\r\n" % (STATUS_LINE[status], b"".join(lines))
        self.link.begin(head, streams=bool(self.chunked_encoding) and not bodiless)

    def _write_body(self, body: bytes, *, more: bool) -> None:
        if self.scope["method"] == "HEAD":
            self.expected_content_length = 0
        elif self.chunked_encoding:
            chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            self.link.write(chunk if more else chunk + b"0\r\n\r\n")
        elif len(body) > self.expected_content_length:
            raise RuntimeError("the body is longer than its content-length")
        else:
            self.expected_content_length -= len(body)
            self.link.write(body)
        if not more:
            self._complete()

    def _complete(self) -> None:
        if self.expected_content_length != 0:
            raise RuntimeError("the body is shorter than its content-length")
        self.response_complete = True
        self.link.end()
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()


def _check(headers: list[tuple[bytes, bytes]]) -> None:
    """Refuse what would be read as another header, or as a body."""
    # One look at all names, and one at all values, at what is left without the fit: a line end is fit in neither.
    names, values = b"".join([name for name, _ in headers]), b"".join([value for _, value in headers])
    if names.translate(None, _NAME_FIT) or values.translate(None, _VALUE_FIT):
        raise RuntimeError("a header cannot be written")
