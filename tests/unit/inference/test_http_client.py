"""The client of upstreams against a server that says exactly what a test wants, on a real socket."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from consumers.inference.http_client import HttpClient
from consumers.inference.http_connection import HEAD_BYTES_MAX, READ_BYTES_MAX, UNREAD_BYTES_MAX, HttpFailed

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Server:
    """Answers each request with the next of ``answers``; counts connections, keeps what was asked."""

    answers: list[Answer]
    connections: int = 0
    asked: list[bytes] = field(default_factory=list)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while self.answers:
                head = await reader.readuntil(b"\r\n\r\n")
                length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
                self.asked.append(head + (await reader.readexactly(int(length)) if length else b""))
                await self.answers.pop(0)(reader, writer)
            await reader.read()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.left.set()
            writer.close()


def says(*parts: bytes, close: bool = False) -> Answer:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
        if close:
            writer.close()

    return answer


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@asynccontextmanager
async def talking(
    *answers: Answer, silence_s_max: float = 10.0, path: str = "/v1"
) -> AsyncIterator[tuple[Server, HttpClient]]:
    server = Server(list(answers))
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    server.url = f"http://127.0.0.1:{port}{path}"
    client = HttpClient(
        server.url, {"Authorization": "Bearer k"}, connect_s_max=5, silence_s_max=silence_s_max, connections_max=2
    )
    try:
        yield server, client
    finally:
        await client.close()
        listening.close()


async def read(client: HttpClient, body: object = None) -> tuple[int, bytes]:
    async with client.request("POST", "/chat", body) as response:
        whole = b""
        while piece := await response.piece():
            whole += piece
        return response.status, whole


async def test_a_chunked_answer_is_read_as_it_comes_and_its_connection_serves_again() -> None:
    whole = CHUNKED + chunk(b"Hel") + chunk(b"lo") + b"0\r\n\r\n"
    async with talking(says(whole[:50], whole[50:]), says(CHUNKED, chunk(b"again"), b"0\r\n\r\n")) as (server, client):
        assert await read(client, {"a": "ü"}) == (200, b"Hello")
        assert await read(client) == (200, b"again")
    assert server.connections == 1
    assert server.asked[0].startswith(b"POST /v1/chat HTTP/1.1\r\nHost: 127.0.0.1:")
    assert b"Authorization: Bearer k\r\n" in server.asked[0]
    assert server.asked[0].endswith('\r\n\r\n{"a":"ü"}'.encode())


async def test_a_body_ends_by_its_length_or_with_its_connection() -> None:
    by_length = says(b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone")
    by_close = says(b"HTTP/1.1 200 OK\r\n\r\n", b"until the end", close=True)
    async with talking(by_length, by_close) as (server, client):
        assert await read(client) == (404, b"none")
        assert await read(client) == (200, b"until the end")
    assert server.connections == 1


async def test_an_announcement_is_not_the_answer() -> None:
    async with talking(says(b"HTTP/1.1 100 Continue\r\n\r\n", CHUNKED, chunk(b"x"), b"0\r\n\r\n")) as (_, client):
        assert await read(client) == (200, b"x")


async def test_a_kept_connection_that_is_closed_is_replaced() -> None:
    first = says(CHUNKED + b"0\r\n\r\n", close=True)
    async with talking(first, says(CHUNKED + chunk(b"x") + b"0\r\n\r\n")) as (server, client):
        assert await read(client) == (200, b"")
        assert await read(client) == (200, b"x")
    assert server.connections == 2


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (says(close=True), "closed before an answer"),
        (says(b"HTTP/1.1 200", close=True), "broke off"),
        (says(CHUNKED, chunk(b"x"), close=True), "broke off"),
        (says(b"220 smtp ready\r\n\r\n"), "no HTTP"),
        (says(b"HTTP/1.1 200 OK\r\nX: " + b"x" * HEAD_BYTES_MAX + b"\r\n"), "head is too large"),
    ],
)
async def test_what_is_no_whole_answer_fails(answer: Answer, reason: str) -> None:
    async with talking(answer) as (_, client):
        with pytest.raises(HttpFailed, match=reason):
            await read(client)


async def test_nobody_there_is_a_failure() -> None:
    async with talking() as (server, client):
        pass
    assert server.connections == 0
    with pytest.raises(HttpFailed, match="no connection"):
        await read(client)


async def test_silence_is_a_failure_however_much_was_said() -> None:
    silent = talking(says(CHUNKED, chunk(b"x")), silence_s_max=0.05)
    async with silent as (_, client), client.request("GET", "/chat") as response:
        assert await response.piece() == b"x"
        with pytest.raises(HttpFailed, match="silent"):
            await response.piece()


async def test_leaving_in_the_middle_cuts_the_answer_off() -> None:
    async with talking(says(CHUNKED, chunk(b"x"))) as (server, client):
        async with client.request("GET", "/chat") as response:
            assert await response.piece() == b"x"
        await server.left.wait()


async def test_an_answer_that_was_read_leaves_its_connection_to_the_next() -> None:
    go_on = asyncio.Event()

    async def slow_end(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED + chunk(b"[DONE]"))
        await go_on.wait()
        writer.write(chunk(b"more") + b"0\r\n\r\n")

    async with talking(slow_end, says(CHUNKED + chunk(b"x") + b"0\r\n\r\n")) as (server, client):
        async with client.request("GET", "/chat") as response:
            assert await response.piece() == b"[DONE]"
            response.leave()
        go_on.set()
        while not client.idle:  # noqa: ASYNC110 - the event loop brings it about, and tells nobody
            await asyncio.sleep(0.001)
        assert await read(client) == (200, b"x")
    assert server.connections == 1


async def test_a_reader_that_does_not_read_stops_the_server() -> None:
    size = 8 * UNREAD_BYTES_MAX
    written = 0

    async def flood(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        while written < size:
            writer.write(bytes(65_536))
            await writer.drain()
            written += 65_536

    async with talking(flood) as (_, client), client.request("GET", "/chat") as response:
        got = len(await response.piece())
        while not response.paused:  # noqa: ASYNC110 - the event loop brings it about, and tells nobody
            await asyncio.sleep(0.001)
        assert written < size
        while piece := await response.piece():
            got += len(piece)
        assert got == size


async def test_what_waits_for_a_paused_reader_is_found_by_a_look() -> None:
    more = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED + chunk(b"a"))
        await more.wait()
        writer.write(chunk(bytes(3 * READ_BYTES_MAX)) + b"0\r\n\r\n")
        await reader.readexactly(1)

    async with talking(answer) as (server, client), client.request("GET", "/chat") as response:
        assert await response.piece() == b"a"
        response.let_pile_up(more.set)
        response.pause()
        response.pause()
        more.set()
        got = 0
        while got < 3 * READ_BYTES_MAX:
            got += len(response.take())
            await asyncio.sleep(0)
        assert not await response.more()
    assert server.connections == 1


async def test_a_connection_that_breaks_while_its_reader_is_paused_is_told_by_a_look() -> None:
    broken = asyncio.Event()

    async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED + chunk(b"a"))
        await broken.wait()
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async with talking(reset) as (server, client), client.request("GET", "/chat") as response:
        assert await response.piece() == b"a"
        response.pause()
        broken.set()
        await server.left.wait()
        assert response.take() == b""
        with pytest.raises(HttpFailed, match="broke"):
            await response.more()


async def test_no_more_connections_than_allowed() -> None:
    gate = asyncio.Event()

    async def gated(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await gate.wait()
        writer.write(CHUNKED + b"0\r\n\r\n")

    async with talking(*[gated] * 5) as (server, client):
        async with asyncio.TaskGroup() as tasks:
            asking = [tasks.create_task(read(client)) for _ in range(5)]
            while len(server.asked) < 2:  # noqa: ASYNC110 - the event loop brings it about, and tells nobody
                await asyncio.sleep(0.001)
            assert server.connections == 2
            gate.set()
        assert [task.result() for task in asking] == [(200, b"")] * 5
    assert server.connections == 2


@pytest.mark.parametrize("url", ["ftp://host/v1", "host:80", "http://"])
async def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="not an http or https address"):
        HttpClient(url, {}, connect_s_max=1, silence_s_max=1, connections_max=1)


async def test_an_answer_that_was_left_takes_nothing_of_the_next_on_its_connection() -> None:
    async with talking(says(CHUNKED + b"0\r\n\r\n"), says(CHUNKED, chunk(b"theirs"))) as (server, client):
        async with client.request("GET", "/chat") as left:
            assert await left.piece() == b""
        async with client.request("GET", "/chat") as response:
            assert await response.more()
            assert left.take() == b""
            assert response.take() == b"theirs"
    assert server.connections == 1
