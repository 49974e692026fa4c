"""The server around the application: its start, its listener and its stop."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

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


@asynccontextmanager
async def served(**limits: Any) -> AsyncIterator[tuple[str, int]]:
    """The address of a running server with these limits."""
    settings = ServerSettings(port=0, stop_seconds_max=1, **limits)
    listener = open_listener(settings)
    # From here on the kernel takes connections, whenever the server begins to.
    listener.listen()
    stop = asyncio.Event()

    async def nothing() -> None:
        return

    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(serve(hello, listener, settings, stop, nothing))
        try:
            yield listener.getsockname()[:2]
        finally:
            stop.set()
            await asyncio.wait([serving])


async def talk(address: tuple[str, int], *sent: bytes) -> tuple[int, dict[str, Any]]:
    """The status and the error object that the server answers with, before it hangs up."""
    reader, writer = await asyncio.open_connection(*address)
    for each in sent:
        writer.write(each)
        await asyncio.sleep(0)
    answer = await reader.read()
    writer.close()
    if not answer:
        return 0, {}
    head, body = answer.split(b"\r\n\r\n", 1)
    return int(head.split()[1]), json.loads(body)["error"] if body.startswith(b"{") else {}


async def test_half_a_head_is_408_and_silence_is_hung_up_on() -> None:
    async with served(head_seconds_max=0.05) as address:
        status, error = await talk(address, b"GET / HTTP/1.1\r\nhost: x\r\n")
        assert (status, error["code"]) == (408, "request_timeout")
        assert await talk(address) == (0, {})


async def test_heads_that_dribble_do_not_keep_others_out() -> None:
    async with served(head_seconds_max=0.5) as address, asyncio.TaskGroup() as tasks:
        dribbling = [tasks.create_task(talk(address, b"GET / HT", b"TP/1.1\r\nx: ")) for _ in range(200)]
        for _ in range(20):
            status, _ = await talk(address, b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            assert status == 200
        assert {status for status, _ in await asyncio.gather(*dribbling)} == {408}


async def test_a_second_request_is_bounded_like_the_first() -> None:
    async with served(head_seconds_max=0.1) as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        await reader.readuntil(b"ok")
        writer.write(b"GET / HTTP/1.1\r\n")
        assert b" 408 " in await reader.read()
        writer.close()


@pytest.mark.parametrize("sent", [(b"x: " + b"a" * 2000 + b"\r\n\r\n",), (b"x: " + b"a" * 2000,), (b"x: 1\r\n" * 400,)])
async def test_a_head_too_large_is_431(sent: tuple[bytes, ...]) -> None:
    async with served(head_bytes_max=1024) as address:
        status, error = await talk(address, b"GET / HTTP/1.1\r\nhost: x\r\n", *sent)
    assert (status, error["code"]) == (431, "request_head_too_large")


async def test_what_is_not_http_is_400() -> None:
    async with served() as address:
        status, error = await talk(address, b"\x16\x03\x01\x02\x00\x01")
    assert (status, error["code"]) == (400, "invalid_http")


async def test_beyond_the_connections_requests_are_503() -> None:
    async with served(connections_max=1) as address:
        _, held = await asyncio.open_connection(*address)
        status, error = await talk(address, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (status, error["code"]) == (503, "server_is_overloaded")
        held.close()
        await held.wait_closed()
