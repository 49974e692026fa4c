"""uvicorn's HTTP/1.1 protocol with bounds on what comes before a request: its head, in time and size, and its number.

What is refused here is refused in OpenAI's error shape, because the client cannot tell which part of us it met.
"""

import asyncio
import json
from typing import Any, Final
from urllib.parse import unquote

import httptools
import uvicorn
from pydantic import BaseModel, ConfigDict, Field
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from schemas.errors import Refusal, invalid_request, unavailable
from schemas.ports import CLIENT_LINK
from turnstream.http_cycle import ConnectionLink, LinkedCycle
from turnstream.http_latch import Latch, LightFlowControl

_TOO_SLOW: Final = invalid_request("The request head arrived too slowly.", code="request_timeout", status=408)
_TOO_LARGE: Final = invalid_request("The request head is too large.", code="request_head_too_large", status=431)
_INVALID: Final = invalid_request("This is not an HTTP request.", code="invalid_http")
_TOO_MANY: Final = unavailable("This server has too many connections. Retry shortly.", retry_after_s=2)


class ConnectionLimits(BaseModel):
    """Bounds of one connection and of their number."""

    model_config = ConfigDict(frozen=True)

    connections_max: int = Field(default=24_000, ge=1, description="Beyond it requests get 503.")
    head_seconds_max: float = Field(
        default=10.0, gt=0, description="From the connection, or the first byte, to the end of a request's head."
    )
    head_bytes_max: int = Field(default=16_384, ge=256, description="Of a request's line and headers.")


class BoundedConfig(uvicorn.Config):
    """uvicorn's configuration with the limits of its connections."""

    limits: ConnectionLimits = ConnectionLimits()


class BoundedHttpProtocol(HttpToolsProtocol):
    """One connection. Works with ``BoundedConfig`` alone."""

    # Beyond thirty attributes each object would keep a table of their names; uvicorn has twenty-eight.
    __slots__ = ("_head_bytes", "_head_open", "_head_timer", "_limits", "_message_open")

    # There is none while nothing is to be parsed; uvicorn's scope is one of ASGI's, which has no room for more.
    parser: Any
    scope: Any

    def __init__(self, config: uvicorn.Config, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        if not isinstance(config, BoundedConfig):
            raise TypeError("this protocol takes its limits from a BoundedConfig")
        self._limits = config.limits
        self._head_timer: asyncio.TimerHandle | None = None
        self._head_open = False
        self._head_bytes = 0
        self._message_open = False
        # An empty deque takes more than half a KiB.
        self.pipeline: Any = []

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a head, not for ever."""
        super().connection_made(transport)
        self.flow = LightFlowControl(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_timer()
        super().connection_lost(exc)
        if isinstance(self.cycle, LinkedCycle):
            self.cycle.link.leave()

    def data_received(self, data: bytes) -> None:
        """Parse; a head that is still not complete may not grow without end."""
        if self.parser is None:
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        super().data_received(data)
        if not self._message_open:
            # While an answer streams for minutes nothing is parsed.
            self.parser = None
        if self._head_open:
            self._head_bytes += len(data)
            if self._head_bytes > self._limits.head_bytes_max:
                self._refuse(_TOO_LARGE)
            elif self._head_timer is None:
                self._start_timer()

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._head_open, self._head_bytes, self._message_open = True, 0, True

    def on_headers_complete(self) -> None:
        """Answer it, or refuse it."""
        self._head_open = False
        self._stop_timer()
        size = len(self.url) + sum([len(name) + len(value) for name, value in self.headers])
        if size > self._limits.head_bytes_max:
            self._begin(_Refused(_TOO_LARGE))
        elif len(self.connections) > self._limits.connections_max:
            self._begin(_Refused(_TOO_MANY))
        else:
            self._begin(self.app)

    def on_message_complete(self) -> None:
        """The body is complete: what comes now is the client's leave, or its next request."""
        super().on_message_complete()
        self._message_open = False
        # The cycle's scope has them.
        self.headers = []
        if not self.pipeline:
            self.flow.resume_reading()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP; uvicorn says it in plain text."""
        del msg
        self._refuse(_INVALID)

    def _begin(self, app: Any) -> None:
        """Start the task of a request, or let it wait for the response before it."""
        before = self.cycle
        self.cycle = cycle = self._new_cycle()
        if before is None or before.response_complete:
            self._start_asgi_task(cycle, app)
        else:
            self.flow.pause_reading()
            self.pipeline.insert(0, (cycle, app))

    def _new_cycle(self) -> LinkedCycle:
        version, url = self.parser.get_http_version(), httptools.parse_url(self.url)
        path = url.path.decode("ascii")
        link = ConnectionLink(self.transport, self.flow, self.loop)
        self.scope |= {
            "method": self.parser.get_method().decode("ascii"),
            "http_version": version,
            "path": unquote(path) if "%" in path else path,
            "raw_path": url.path,
            "query_string": url.query or b"",
            "extensions": {CLIENT_LINK: link},
        }
        return LinkedCycle(
            link=link,
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=Latch(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=version != "1.0" and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )

    def _start_timer(self) -> None:
        self._head_timer = self.loop.call_later(self._limits.head_seconds_max, self._time_out)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _time_out(self) -> None:
        self._head_timer = None
        if self._head_open:
            self._refuse(_TOO_SLOW)
        elif self.cycle is None:
            self.transport.close()

    def _refuse(self, refusal: Refusal) -> None:
        self._head_open = False
        self._stop_timer()
        if self.transport.is_closing():
            return
        # Behind an answer that is being written this would be read as a part of it.
        if self.cycle is None or self.cycle.response_complete:
            lines = [name + b": " + value for name, value in _headers(refusal)]
            head = STATUS_LINE[refusal.status] + b"\r\n".join(lines) + b"\r\n\r\n"
            self.transport.write(head + _body(refusal))
        self.transport.close()


class _Refused:
    """An ASGI application that refuses."""

    def __init__(self, refusal: Refusal) -> None:
        self._refusal = refusal

    async def __call__(self, _scope: Any, _receive: Any, send: Any) -> None:
        start = {"type": "http.response.start", "status": self._refusal.status, "headers": _headers(self._refusal)}
        await send(start)
        await send({"type": "http.response.body", "body": _body(self._refusal)})


def _headers(refusal: Refusal) -> list[tuple[bytes, bytes]]:
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(_body(refusal))).encode()),
        (b"connection", b"close"),
    ]
    if refusal.retry_after_s is not None:
        headers.append((b"retry-after", str(refusal.retry_after_s).encode()))
    return headers


def _body(refusal: Refusal) -> bytes:
    return json.dumps({"error": refusal.error.model_dump(mode="json")}, separators=(",", ":")).encode()
