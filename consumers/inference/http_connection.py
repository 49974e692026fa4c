"""One HTTP/1.1 connection of a client: httptools parses, this keeps its bounds and its time."""

import asyncio
import os
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

import httptools

HEAD_BYTES_MAX: Final = 65_536
# Read by hand at a time.
READ_BYTES_MAX: Final = 65_536
# Beyond it the server waits: nobody reads.
UNREAD_BYTES_MAX: Final = 1_048_576
# How long the end of a body may take of which everything that matters was read.
DRAIN_S_MAX: Final = 1.0


class HttpFailed(Exception):
    """The server could not be reached, broke off, fell silent or does not speak HTTP. Its text holds no content."""


class Connection(asyncio.Protocol):
    """One request at a time. One timer watches over its silence, however many pieces come."""

    def __init__(self, silence_s_max: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._silence_s_max = silence_s_max
        self._transport: Any = None
        self._descriptor: int | None = None
        self._closed = False
        self._reset()

    def _reset(self) -> None:
        self.status = 0
        self.pieces: deque[bytes] = deque()
        self.complete = False
        self._keep_alive = False
        self._headed = False
        self._until_close = False
        self._head_bytes = 0
        self._unread_bytes = 0
        self._held = False
        self._heard_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._failure: HttpFailed | None = None
        self._on_complete: Callable[[], None] | None = None
        # Called when something came and all before it was taken; then data alone wakes nobody.
        self.on_more: Callable[[], None] | None = None
        self._parser = httptools.HttpResponseParser(self)

    @property
    def reusable(self) -> bool:
        """Whether another request may be sent on it."""
        return self.complete and self._keep_alive and not self._closed

    @property
    def paused(self) -> bool:
        """Whether the server has to wait: so much is unread, or nobody looks."""
        return self._held or self._unread_bytes > UNREAD_BYTES_MAX

    @property
    def broken(self) -> bool:
        """Whether nothing more will come."""
        return self._closed or self._failure is not None

    def send(self, message: bytes) -> None:
        """Begin a request."""
        self._reset()
        if self._closed:
            return
        self._heard_s = self._loop.time()
        self._timer = self._loop.call_at(self._heard_s + self._silence_s_max, self._check_silence)
        self._transport.write(message)

    async def head(self) -> bool:
        """Wait for the head; False when the connection closed before its first byte. Raises HttpFailed."""
        while not self._headed:
            if self._closed and not self._head_bytes:
                return False
            await self.more()
        return True

    async def more(self) -> None:
        """Wait until something happens. Raises HttpFailed."""
        if self._failure is not None:
            raise self._failure
        if self._closed:
            raise HttpFailed("the answer broke off")
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def take(self) -> bytes:
        """The body that has come and was not taken. One that is held is released when nothing more has come."""
        if self._held:
            self._read_waiting()
        taken = self.pieces.popleft() if len(self.pieces) == 1 else b"".join(self.pieces)
        self.pieces.clear()
        if self._unread_bytes > UNREAD_BYTES_MAX:
            self._unread_bytes = 0
            self._read_on()
        self._unread_bytes = 0
        return taken

    def hold(self) -> None:
        """Be told of nothing until ``release``: what comes waits for ``take``."""
        if not self._held:
            self._held = True
            self._transport.pause_reading()

    def release(self) -> None:
        """Read on, unless too much is unread."""
        if self._held:
            self._held = False
            self._read_on()

    def drain(self, on_complete: Callable[[], None]) -> None:
        """Leave out what is still to come and call ``on_complete`` at its end; close if that takes too long."""
        self._on_complete = on_complete
        self._stop_timer()
        self._timer = self._loop.call_later(DRAIN_S_MAX, self.abort)

    def abort(self) -> None:
        """Close at once: the server learns that nobody listens."""
        self._stop_timer()
        if self._transport is not None:
            self._transport.abort()

    # --- what the event loop and the parser call ---------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport, and the socket under it where that speaks HTTP itself."""
        self._transport = transport
        socket = transport.get_extra_info("socket")
        if socket is not None and transport.get_extra_info("sslcontext") is None and os.name == "posix":
            self._descriptor = socket.fileno()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits."""
        self._closed = True
        self._stop_timer()
        # Without a length or chunks the end of the connection is the end of the body (RFC 9112, 6.3).
        self.complete = self.complete or (self._headed and self._until_close and exc is None)
        self.wake()

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        if self.complete:
            # Nobody asked for anything more: what else is said on this connection cannot be trusted.
            self.abort()
            return
        self._heard_s = self._loop.time()
        if not self._headed:
            self._head_bytes += len(data)
        untold = not self.pieces
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._fail("this is no HTTP")
        if not self._headed and self._head_bytes > HEAD_BYTES_MAX:
            self._fail("the head is too large")
        if self.on_more is None or self.complete or self.broken:
            self.wake()
        elif untold and self.pieces:
            self.on_more()
        if self._unread_bytes > UNREAD_BYTES_MAX:
            self._transport.pause_reading()

    def on_message_begin(self) -> None:
        """A head begins."""
        self._until_close = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note whether the body says itself where it ends."""
        del value
        if name.lower() in (b"content-length", b"transfer-encoding"):
            self._until_close = False

    def on_headers_complete(self) -> None:
        """The head is there, unless it only announces the answer (1xx)."""
        self.status = self._parser.get_status_code()
        self._headed = self.status >= HTTPStatus.OK

    def on_body(self, body: bytes) -> None:
        """Keep a piece until it is taken."""
        if self._on_complete is not None:
            return
        self.pieces.append(body)
        self._unread_bytes += len(body)

    def on_message_complete(self) -> None:
        """The body is complete."""
        if not self._headed:
            return
        self.complete = True
        self._keep_alive = self._parser.should_keep_alive()
        self._stop_timer()
        if self._on_complete is not None:
            self._on_complete()

    def _read_waiting(self) -> None:
        """Read what has come while nobody was told: cheaper than to have the event loop watch for it."""
        came = READ_BYTES_MAX
        while came == READ_BYTES_MAX and not self.complete and self._unread_bytes <= UNREAD_BYTES_MAX:
            came = self._read_by_hand()
        if not came and not self.pieces:
            # Nothing yet, or the end: of either the event loop tells.
            self.release()

    def _read_by_hand(self) -> int:
        """How many bytes were there, of ``READ_BYTES_MAX`` at most."""
        if self._descriptor is None or self.broken or self._transport.is_closing():
            return 0
        try:
            data = os.read(self._descriptor, READ_BYTES_MAX)
        except BlockingIOError:
            return 0
        except OSError:
            self._fail("the connection broke")
            self.wake()
            return 0
        if data:
            self.data_received(data)
        return len(data)

    def _read_on(self) -> None:
        if not self.paused:
            self._transport.resume_reading()
            # While nobody read, the server had to be silent.
            self._heard_s = self._loop.time()

    # --- time ------------------------------------------------------------------------------------------------

    def _check_silence(self) -> None:
        due_s = self._heard_s + self._silence_s_max
        if self.paused:
            due_s = self._loop.time() + self._silence_s_max
        if self._loop.time() < due_s:
            self._timer = self._loop.call_at(due_s, self._check_silence)
            return
        self._timer = None
        self._fail("the server fell silent")
        self.wake()

    def _fail(self, reason: str) -> None:
        self._failure = HttpFailed(reason)
        self.abort()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def wake(self) -> None:
        """Let whoever waits for ``more`` look again."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
