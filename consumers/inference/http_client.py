"""HTTP/1.1 requests whose answers are read as they come, at the least cost per piece.

What a general client does for every piece of a body (locks, scopes, events, timeouts) costs more than everything else
that happens to a token here (ADR 27). httptools parses; this only keeps connections, bounds and time. Without
redirects, proxies and compression: it speaks to servers that an operator has named.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic_core import to_json

from consumers.inference.http_connection import Connection, HttpFailed

_PORTS: Final = {"http": 80, "https": 443}


class HttpResponse:
    """An answer whose head has come."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.status: Final = connection.status
        self.read = False
        self._stopped = False
        self._ended = False

    def leave(self) -> None:
        """Everything that matters was read: the connection may serve again once its body has ended."""
        self.read = True

    @property
    def paused(self) -> bool:
        """Whether so much is unread that the server has to wait."""
        return self._connection.paused

    def let_pile_up(self, on_more: Callable[[], None]) -> None:
        """From here on ``more`` waits for the end; ``on_more`` is called when there is something to ``take``."""
        self._connection.on_more = on_more
        if self._connection.pieces:
            on_more()

    def take(self) -> bytes:
        """What came of the body since the last call; nothing once its connection may serve others.

        When nothing came while it was paused, it is so no more.
        """
        return b"" if self._ended else self._connection.take()

    def pause(self) -> None:
        """Tell of nothing more until it was looked for with ``take``: read at once it costs less than by the piece."""
        if not self._ended:
            self._connection.hold()

    def end(self) -> None:
        """Let go of the connection."""
        self._connection.release()
        self._ended = True
        self._connection.on_more = None

    def stop(self) -> None:
        """Wait for nothing more."""
        self._stopped = True
        self._connection.wake()

    async def more(self) -> bool:
        """Wait for more of the body; False at its end. Raises HttpFailed when it breaks off, and all was taken."""
        connection = self._connection
        while not (connection.complete or self._stopped):
            if connection.pieces and (connection.on_more is None or connection.broken):
                break
            await connection.more()
        return bool(connection.pieces)

    async def piece(self) -> bytes:
        """What came of the body since the last call, waiting for it; empty at its end. Raises HttpFailed."""
        return self.take() if await self.more() else b""


class HttpClient:
    """Requests to one server, on kept connections. Make it inside the running event loop, and ``close`` it."""

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        *,
        connect_s_max: float,
        silence_s_max: float,
        connections_max: int,
    ) -> None:
        """``url`` is what comes before every path. Raises ValueError when it is none of http or https."""
        parts = urlsplit(url)
        if parts.scheme not in _PORTS or not parts.hostname:
            raise ValueError(f"not an http or https address: {parts.scheme}://{parts.hostname or ''}")
        self._host = parts.hostname
        self._port = parts.port or _PORTS[parts.scheme]
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._path = parts.path.rstrip("/")
        fixed = {"Host": parts.netloc.rpartition("@")[2], "Accept": "*/*", "User-Agent": "turnstream", **headers}
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in fixed.items())
        self._connect_s_max = connect_s_max
        self._silence_s_max = silence_s_max
        self._slots = asyncio.Semaphore(connections_max)
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()

    @property
    def idle(self) -> int:
        """Connections that wait for a request."""
        return len(self._idle)

    @asynccontextmanager
    async def request(self, method: str, path: str, body: Any = None) -> AsyncIterator[HttpResponse]:
        """The answer to one request, with ``body`` as JSON. Unless it is ``read`` or complete, leaving cuts it off.

        Raises HttpFailed.
        """
        message = self._message(method, path, body)
        async with self._slots:
            connection = await self._send(message)
            response = HttpResponse(connection)
            try:
                yield response
            finally:
                response.end()
                self._give_back(connection, read=response.read)

    async def close(self) -> None:
        """Close all connections; answers that are being read break off."""
        for connection in (*self._idle, *self._busy):
            connection.abort()
        self._idle.clear()

    def _message(self, method: str, path: str, body: Any) -> bytes:
        content = b"" if body is None else to_json(body)
        typed = "" if body is None else f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n"
        return f"{method} {self._path}{path} HTTP/1.1\r\n{self._headers}{typed}\r\n".encode("latin-1") + content

    async def _send(self, message: bytes) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if await self._head(connection, message):
                return connection
            # A kept connection may close before it takes another request; that says nothing of the server.
        connection = await self._connect()
        if not await self._head(connection, message):
            raise HttpFailed("the connection closed before an answer")
        return connection

    async def _head(self, connection: Connection, message: bytes) -> bool:
        """Send, and wait for the head; whether there is one, or the connection closed without a word."""
        self._busy.add(connection)
        ready = False
        try:
            connection.send(message)
            ready = await connection.head()
        finally:
            if not ready:
                self._busy.discard(connection)
                connection.abort()
        return ready

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_s_max):
                _, connection = await loop.create_connection(
                    lambda: Connection(self._silence_s_max), self._host, self._port, ssl=self._tls
                )
        except (OSError, TimeoutError) as error:
            raise HttpFailed(f"no connection: {type(error).__name__}") from None
        return connection

    def _give_back(self, connection: Connection, *, read: bool = True) -> None:
        if connection.reusable:
            self._busy.discard(connection)
            self._idle.append(connection)
        elif read and not connection.complete:
            connection.drain(lambda: self._give_back(connection))
        else:
            # The server learns that nobody listens any more.
            self._busy.discard(connection)
            connection.abort()
