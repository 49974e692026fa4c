"""One connection to a broker: requests go out in order, answers come back in the same order."""

import asyncio
import struct
from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import Final, NamedTuple, cast

import structlog

log = structlog.get_logger()

# Given the answer without its header; None when the connection was lost before it came.
OnAnswer = Callable[[bytes | None], None]

_SIZE: Final = struct.Struct(">i")
_REQUEST_HEADER: Final = struct.Struct(">hhih")
_INT32: Final = 2**31
_WATCHES_PER_LIMIT: Final = 10


class Api(Enum):
    """A request's key and version (https://kafka.apache.org/protocol), known to brokers from 2.1 on."""

    PRODUCE = (0, 7)
    FETCH = (1, 10)


class _Asked(NamedTuple):
    correlation_id: int
    asked_s: float
    on_answer: OnAnswer


class BrokerConnection(asyncio.Protocol):
    """A request costs one write, its answer one call: no task and no future in between.

    Brokers serve a connection's requests one after the other, so one that waits there holds up those behind it. A
    connection that leaves a request unanswered for ``answer_seconds_max`` is closed.
    """

    def __init__(self, client_id: str, answer_seconds_max: float) -> None:
        self._client_id = client_id.encode()
        self._answer_s = answer_seconds_max
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._asked: deque[_Asked] = deque()
        self._received = bytearray()
        self._correlation_id = 0

    @property
    def open(self) -> bool:
        """Whether requests may be sent."""
        return self._transport is not None and not self._transport.is_closing()

    def send(self, api: Api, body: bytes, on_answer: OnAnswer) -> None:
        """Send a request; ``on_answer`` is called once, also when the connection is lost. Needs it open."""
        if self._transport is None:
            raise ConnectionError("not connected")
        self._correlation_id = (self._correlation_id + 1) % _INT32
        key, version = api.value
        name = self._client_id
        size = _REQUEST_HEADER.size + len(name) + len(body)
        header = _SIZE.pack(size) + _REQUEST_HEADER.pack(key, version, self._correlation_id, len(name)) + name
        self._asked.append(_Asked(self._correlation_id, self._loop.time(), on_answer))
        self._transport.write(header + body)

    def close(self) -> None:
        """Disconnect. What is asked and not answered is lost."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        self._transport = cast("asyncio.Transport", transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Called by the event loop: give every answer that is complete to who asked."""
        received = self._received
        received += data
        start = 0
        while len(received) - start >= _SIZE.size:
            begin = start + _SIZE.size
            stop = begin + _SIZE.unpack_from(received, start)[0]
            if len(received) < stop:
                break
            self._answered(bytes(memoryview(received)[begin:stop]))
            start = stop
        del received[:start]

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop."""
        if exc is not None:
            log.info("broker_connection_lost", error=type(exc).__name__)
        self._transport = None
        while self._asked:
            self._asked.popleft().on_answer(None)

    def _watch(self) -> None:
        # One clock for all: a timer for each request would cost as much as the request.
        if not self.open:
            return
        if self._asked and self._asked[0].asked_s < self._loop.time() - self._answer_s:
            log.warning("broker_does_not_answer", seconds_max=self._answer_s)
            self.close()
        else:
            self._loop.call_later(self._answer_s / _WATCHES_PER_LIMIT, self._watch)

    def _answered(self, frame: bytes) -> None:
        asked = self._asked.popleft()
        if _SIZE.unpack_from(frame)[0] != asked.correlation_id:
            # Nothing that comes can be believed any more.
            self._asked.appendleft(asked)
            self.close()
            return
        asked.on_answer(frame[_SIZE.size :])
