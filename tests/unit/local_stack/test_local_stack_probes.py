"""The probes against servers of the test's own: ready means the right answer, and nothing else."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from turnstream.local_stack.ports import LOOPBACK, PortReservations, PortWish, plan_ports
from turnstream.local_stack.readiness import NotReadyError, cql_result, http_ok, kafka_group_coordinator, redis_pong

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def _server(handler: Handler) -> AsyncIterator[int]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    server = await asyncio.start_server(handle, LOOPBACK, 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def _answers(*replies: bytes) -> Handler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for reply in replies:
            await reader.read(4096)
            writer.write(reply)
            await writer.drain()

    return handler


def _frame(opcode: int, body: bytes = b"") -> bytes:
    return struct.pack(">BBhBI", 0x84, 0, 0, opcode, len(body)) + body


@pytest.mark.parametrize(("status", "ready"), [("200 OK", True), ("503 Service Unavailable", False), ("", False)])
async def test_http(status: str, *, ready: bool) -> None:
    async with _server(_answers(f"HTTP/1.1 {status}\r\n\r\n".encode() if status else b"")) as port:
        if ready:
            await http_ok(port, "/readyz")()
        else:
            with pytest.raises(NotReadyError, match="readyz"):
                await http_ok(port, "/readyz")()


@pytest.mark.parametrize(("reply", "ready"), [(b"+PONG\r\n", True), (b"-LOADING Redis is loading\r\n", False)])
async def test_redis(reply: bytes, *, ready: bool) -> None:
    async with _server(_answers(reply)) as port:
        if ready:
            await redis_pong(port)()
        else:
            with pytest.raises(NotReadyError, match="LOADING"):
                await redis_pong(port)()


async def test_cassandra_is_ready_when_a_query_has_a_result() -> None:
    async with _server(_answers(_frame(0x02), _frame(0x08, b"rows"))) as port:
        await cql_result(port)()


@pytest.mark.parametrize("replies", [(_frame(0x00, b"starting"),), (_frame(0x02), _frame(0x00)), (b"garbage",), ()])
async def test_cassandra_is_not_ready_on_anything_else(replies: tuple[bytes, ...]) -> None:
    async with _server(_answers(*replies)) as port:
        with pytest.raises(NotReadyError):
            await cql_result(port)()


async def test_nothing_listens() -> None:
    reservations = PortReservations()
    port = plan_ports([PortWish("closed", 28_000)], reservations.take).ports["closed"]
    for probe in (http_ok(port, "/"), redis_pong(port), cql_result(port), kafka_group_coordinator(port)):
        with pytest.raises(NotReadyError, match=str(port)):
            await probe()
    reservations.close()
