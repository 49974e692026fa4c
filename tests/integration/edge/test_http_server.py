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
from schemas.ports import CLIENT_LINK, ClientLink
from turnstream.http_latch import Latch
from turnstream.http_server import AsgiApp, ServerSettings, open_listener, serve


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
async def served(app: AsgiApp = hello, **limits: Any) -> AsyncIterator[tuple[str, int]]:
    """The address of a running server with these limits."""
    settings = ServerSettings(port=0, stop_seconds_max=1, **limits)
    listener = open_listener(settings)
    # From here on the kernel takes connections, whenever the server begins to.
    listener.listen()
    stop = asyncio.Event()

    async def nothing() -> None:
        return

    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(serve(app, listener, settings, stop, nothing))
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


def link_of(scope: Scope) -> ClientLink:
    link: ClientLink = scope["extensions"][CLIENT_LINK]
    return link


async def test_pieces_go_between_the_messages_of_a_stream() -> None:
    async def stream(scope: Scope, _receive: Receive, send: Send) -> None:
        link = link_of(scope)
        assert not link.ready
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-a", b"b")]})
        assert link.ready
        link.write_piece(b"first")
        await send({"type": "http.response.body", "body": b"second", "more_body": True})
        link.write_piece(b"third")
        await send({"type": "http.response.body", "body": b"last"})
        assert not link.ready

    async with served(stream) as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        head, body = (await reader.read()).split(b"\r\n\r\n", 1)
        writer.close()
    assert b"\r\nx-a: b\r\n" in head
    assert body == b"5\r\nfirst\r\n6\r\nsecond\r\n5\r\nthird\r\n4\r\nlast\r\n0\r\n\r\n"


async def test_a_head_is_sent_though_no_body_follows_yet() -> None:
    async def stream(_scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while (await receive())["type"] != "http.disconnect":
            pass

    async with served(stream) as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert b"chunked" in await reader.readuntil(b"\r\n\r\n")
        writer.close()


async def test_who_sent_a_large_body_and_left_is_known_to_be_gone() -> None:
    gone = asyncio.Event()

    async def wait(scope: Scope, receive: Receive, _send: Send) -> None:
        link_of(scope).on_gone = gone.set
        while (await receive())["more_body"]:
            pass
        await gone.wait()

    async with served(wait) as address:
        _, writer = await asyncio.open_connection(*address)
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 200000\r\n\r\n" + bytes(200_000))
        await writer.drain()
        writer.close()
        await gone.wait()


async def answer_of(status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> tuple[bytes, bytes]:
    """The head and the body of a response that is to be so."""

    async def respond(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async with served(respond) as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        head, _, rest = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
    return head, rest


@pytest.mark.parametrize("header", [(b"x-a", b"b\r\nset-cookie: c"), (b"x-a\r\nb", b"c"), (b"x a", b"b")])
async def test_a_header_that_could_be_read_as_another_is_not_sent(header: tuple[bytes, bytes]) -> None:
    head, _ = await answer_of(200, [header], b"")
    assert b" 500 " in head
    assert b"set-cookie" not in head


async def test_a_body_longer_than_it_says_is_not_sent() -> None:
    assert await answer_of(200, [(b"content-length", b"1")], b"ab") == (b"", b"")


async def test_no_content_has_no_body_and_no_chunks() -> None:
    head, body = await answer_of(204, [], b"")
    assert b"chunked" not in head
    assert body == b""


async def test_requests_in_one_piece_and_in_halves_are_all_answered() -> None:
    request = b"POST /%d HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi"
    begun = asyncio.Event()

    async def echo(scope: Scope, receive: Receive, send: Send) -> None:
        body = (await receive())["body"]
        begun.set()
        await hello(scope, receive, send)
        assert body == b"hi"

    async with served(echo) as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(request % 1 + request % 2 + (request % 3)[:9])
        await begun.wait()
        for _ in range(2):
            assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
        writer.write((request % 3)[9:])
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
        writer.close()


async def test_a_latch_lets_all_who_wait_go_on_and_those_who_come_later() -> None:
    latch = Latch()
    waiting = [asyncio.create_task(latch.wait()) for _ in range(2)]
    await asyncio.sleep(0)
    latch.set()
    await asyncio.gather(*waiting)
    await latch.wait()
    latch.clear()
    late = asyncio.create_task(latch.wait())
    await asyncio.sleep(0)
    assert not late.done()
    latch.set()
    await late
