"""The OpenAI backend on a real socket: what it tells when, and that an answer may pile up."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import NamedTuple

import pytest

from consumers.inference.http_connection import UNREAD_BYTES_MAX, Connection, HttpFailed
from consumers.inference.openai_backend import OpenAiBackend
from consumers.inference.pool import BackendKind, PoolSettings
from schemas.errors import Retryable
from schemas.ports import Feed, Generated, Pile
from tests.unit.inference.inference_fakes import make_request
from tests.unit.inference.virtual_time import run_virtually

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
SILENCE_S_MAX = 10.0


def event(data: str) -> bytes:
    raw = f"data: {data}\n\n".encode()
    return b"%x\r\n%b\r\n" % (len(raw), raw)


def word(text: str) -> bytes:
    return event(json.dumps({"choices": [{"index": 0, "delta": {"content": text}}]}))


REASON = event(json.dumps({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}))
END = event("[DONE]") + b"0\r\n\r\n"


class Upstream:
    """Says ``first`` at once and ``rest`` when it is told to ``go_on``."""

    def __init__(self, first: bytes, rest: bytes) -> None:
        self._first, self._rest = first, rest
        self.go_on = asyncio.Event()
        self.said = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD + self._first)
        await self.go_on.wait()
        writer.write(self._rest)
        writer.close()
        self.said.set()


@asynccontextmanager
async def asked(first: bytes, rest: bytes) -> AsyncIterator[tuple[Upstream, OpenAiBackend]]:
    upstream = Upstream(first, rest)
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    backend = OpenAiBackend(PoolSettings(backend=BackendKind.OPENAI, url=f"http://127.0.0.1:{port}/v1"))
    try:
        yield upstream, backend
    finally:
        upstream.go_on.set()
        await backend.close()
        server.close()


class Piling(NamedTuple):
    """An answer that piles up; ``end`` is what it says last."""

    upstream: Upstream
    backend: OpenAiBackend
    more: asyncio.Event
    feed: Feed
    steps: AsyncGenerator[Generated, None]
    end: asyncio.Future[Generated]


@asynccontextmanager
async def piling(rest: bytes) -> AsyncIterator[Piling]:
    """One of which ``a`` was taken; ``rest`` comes when the upstream goes on."""
    async with asked(word("a"), rest) as (upstream, backend):
        more = asyncio.Event()
        pile = Pile(more.set)
        async with aclosing(backend.generate(make_request(), "", pile)) as steps:
            end = asyncio.ensure_future(anext(steps))
            await more.wait()
            assert [step.text for step in pile.feed.take()] == ["a"]
            yield Piling(upstream, backend, more, pile.feed, steps, end)


async def test_steps_come_as_they_are_said() -> None:
    async with asked(word("a"), word(" b") + REASON + END) as (upstream, backend):
        steps = backend.generate(make_request(), "")
        assert (await anext(steps)).text == "a"
        upstream.go_on.set()
        assert [step.text async for step in steps] == [" b", ""]


async def test_what_came_piles_up_until_it_is_taken() -> None:
    async with piling(word(" b")) as answer:
        assert answer.feed.take() == []
        answer.upstream.go_on.set()
        # What nobody took is told before the failure.
        assert (await answer.end).text == " b"
        with pytest.raises(Retryable):
            await anext(answer.steps)


async def test_nobody_is_told_of_what_comes_while_it_is_paused_and_a_look_finds_all_of_it() -> None:
    async with piling(word(" b") + word(" c") + REASON + b"0\r\n\r\n") as answer:
        answer.feed.pause()
        answer.more.clear()
        answer.upstream.go_on.set()
        await answer.upstream.said.wait()
        # After an answer on another connection this one's would have come too.
        assert await answer.backend.ready()
        assert not answer.more.is_set()
        assert [step.text for step in answer.feed.take()] == [" b c"]
        # Without [DONE] the end of the body is the end.
        assert not answer.feed.over
        assert (await answer.end).finish_reason == "stop"


async def test_a_look_in_vain_ends_the_pause() -> None:
    async with piling(word(" b")) as answer:
        answer.feed.pause()
        assert answer.feed.take() == []
        answer.upstream.go_on.set()
        assert (await answer.end).text == " b"


async def test_a_look_finds_that_all_was_said() -> None:
    async with piling(word(" b") + REASON + END) as answer:
        answer.feed.pause()
        answer.upstream.go_on.set()
        await answer.upstream.said.wait()
        assert await answer.backend.ready()
        assert [step.text for step in answer.feed.take()] == [" b"]
        assert answer.feed.over
        assert (await answer.end).finish_reason == "stop"


async def test_the_end_is_told_at_once_with_all_that_piled_up() -> None:
    async with asked(word("a"), word(" b") + REASON + END) as (upstream, backend):
        upstream.go_on.set()
        steps = [step async for step in backend.generate(make_request(), "", Pile(asyncio.Event().set))]
        assert [(step.text, step.tokens, step.finish_reason) for step in steps] == [("a b", 2, None), ("", 0, "stop")]


async def test_an_end_that_is_taken_ends_the_answer_before_its_connection() -> None:
    async with asked(word("a") + REASON + event("[DONE]"), b"0\r\n\r\n") as (_, backend):
        more = asyncio.Event()
        pile = Pile(more.set)
        steps = backend.generate(make_request(), "", pile)
        end = asyncio.ensure_future(anext(steps))
        while not (taken := pile.feed.take()):
            await more.wait()
        assert [step.text for step in taken] == ["a"]
        assert (await end).finish_reason == "stop"


# --- a reader that lets it pile up beyond the bound ---------------------------------------------------------


class Transport(asyncio.Transport):
    """Goes nowhere."""

    resumed = 0

    def write(self, data: bytes | bytearray | memoryview) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None:
        self.resumed += 1

    def abort(self) -> None: ...


async def paused_for(waited_s: float) -> Connection:
    connection = Connection(SILENCE_S_MAX)
    connection.connection_made(Transport())
    connection.send(b"")
    connection.data_received(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(UNREAD_BYTES_MAX + 1))
    await asyncio.sleep(waited_s)
    assert len(connection.take()) == UNREAD_BYTES_MAX + 1
    return connection


async def end_of(connection: Connection) -> None:
    while True:
        await connection.more()


async def test_a_look_gives_a_connection_back_whose_socket_is_not_its_own() -> None:
    # As with TLS, where what the socket says is not what the server says.
    connection, transport = Connection(SILENCE_S_MAX), Transport()
    connection.connection_made(transport)
    connection.hold()
    assert connection.take() == b""
    assert transport.resumed == 1
    assert not connection.paused


def test_time_in_which_nobody_read_is_not_the_servers_silence() -> None:
    async def scenario() -> float:
        connection = await paused_for(waited_s=1.9 * SILENCE_S_MAX)
        begun_s = asyncio.get_running_loop().time()
        with pytest.raises(HttpFailed, match="silent"):
            await end_of(connection)
        return asyncio.get_running_loop().time() - begun_s

    assert run_virtually(scenario()) >= SILENCE_S_MAX
