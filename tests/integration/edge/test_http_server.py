"""The server around the application: its start, its listener and its stop."""

import asyncio
import socket

import pytest
from starlette.types import Receive, Scope, Send

from schemas.errors import Fatal
from turnstream.http_server import ServerSettings, open_listener, serve


async def hello(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


async def test_it_serves_until_told_to_stop_and_drains_first() -> None:
    settings = ServerSettings(port=0, stop_seconds_max=1)
    listener = open_listener(settings)
    stop, drained = asyncio.Event(), asyncio.Event()

    async def drain() -> None:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert b"ok" in await reader.read()
        writer.close()
        await writer.wait_closed()
        drained.set()

    address = listener.getsockname()
    stop.set()
    await serve(hello, listener, settings, stop, drain)
    assert drained.is_set()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*address)


async def test_a_server_that_does_not_come_up_is_fatal() -> None:
    settings = ServerSettings(port=0, start_seconds_max=0.001)
    listener = open_listener(settings)

    async def drain() -> None:
        raise AssertionError

    with pytest.raises(ExceptionGroup) as caught:
        await serve(hello, listener, settings, asyncio.Event(), drain)
    assert caught.group_contains(Fatal)


def test_the_listener_has_our_options() -> None:
    settings = ServerSettings(port=0, send_buffer_bytes=16_384)
    with open_listener(settings) as listener:
        assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
        # Linux reports twice what was asked for.
        assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) in {16_384, 32_768}
        # SO_REUSEADDR is for restarts, not for two servers on one port: a taken one is told.
        listener.listen()
        with pytest.raises(OSError, match="in use"):
            open_listener(ServerSettings(port=listener.getsockname()[1]))
