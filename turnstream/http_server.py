"""The HTTP server: uvicorn on a listener of ours, with every wait bounded and signals left to the process."""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any, Final

import uvicorn
from pydantic import Field

from schemas.errors import Fatal
from turnstream.http_protocol import BoundedConfig, BoundedHttpProtocol, ConnectionLimits

Message = MutableMapping[str, Any]
AsgiApp = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]

_POLL_S: Final = 0.01


class ServerSettings(ConnectionLimits):
    """Limits of the HTTP server."""

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65_535, description="0 takes a free one.")
    # An unread stream otherwise fills megabytes of kernel and transport buffer before its writer notices.
    send_buffer_bytes: int = Field(default=32 * 1024, ge=4096)
    backlog_connections_max: int = Field(default=2048, ge=1)
    unread_milliseconds_max: int = Field(default=30_000, ge=1, description="Bytes not taken by then: a reset (Linux).")
    keep_alive_seconds_max: int = Field(default=30, ge=1)
    start_seconds_max: float = Field(default=10, gt=0)
    stop_seconds_max: int = Field(default=5, ge=1, description="For connections that outlive the drain.")


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # The process has one owner of signals, the composition root.
        yield


def open_listener(settings: ServerSettings) -> socket.socket:
    """A bound listener; accepted sockets inherit its options. Raises OSError when the address is taken."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, settings.send_buffer_bytes)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # Closing waits for unsent bytes; a client that never reads them would keep its connection for ever.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, settings.unread_milliseconds_max)
    try:
        listener.bind((settings.host, settings.port))
    except OSError:
        listener.close()
        raise
    return listener


async def serve(
    app: AsgiApp,
    listener: socket.socket,
    settings: ServerSettings,
    stop: asyncio.Event,
    drain: Callable[[], Awaitable[None]],
) -> None:
    """Serve ``app`` until ``stop`` is set, then ``drain()``, then close. Closes ``listener``.

    ``drain`` is called while connections are still served, so that open answers can end; it bounds itself.
    Raises an ExceptionGroup with Fatal when the server is not up within ``start_seconds_max``.
    """
    server = _Server(_config(app, settings))
    with listener:
        await _serve(server, listener, settings, stop, drain)


async def _serve(
    server: uvicorn.Server,
    listener: socket.socket,
    settings: ServerSettings,
    stop: asyncio.Event,
    drain: Callable[[], Awaitable[None]],
) -> None:
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(server.serve([listener]))
        try:
            await _started(server, serving, settings.start_seconds_max)
            await stop.wait()
            await drain()
        finally:
            server.should_exit = True


async def _started(server: uvicorn.Server, serving: asyncio.Task[None], seconds_max: float) -> None:
    try:
        async with asyncio.timeout(seconds_max):
            while not server.started:
                if serving.done():
                    raise Fatal("the HTTP server ended while it started")
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        serving.cancel()
        raise Fatal(f"the HTTP server did not start within {seconds_max} s") from None


def _config(app: AsgiApp, settings: ServerSettings) -> uvicorn.Config:
    config = BoundedConfig(
        app,
        interface="asgi3",
        http=BoundedHttpProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=settings.backlog_connections_max,
        timeout_keep_alive=settings.keep_alive_seconds_max,
        timeout_graceful_shutdown=settings.stop_seconds_max,
    )
    config.limits = settings
    return config
