"""Frames of a connection, however the network cuts them."""

import asyncio
import struct
from typing import Any

import pytest

from turnstream.log.wire.connection import Api, BrokerConnection


class Transport:
    def __init__(self, connection: BrokerConnection) -> None:
        self._connection = connection
        self.written: list[bytes] = []
        self.aborted = False
        self.ended = asyncio.Event()

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True
        self.ended.set()


def connected(answer_seconds_max: float = 10) -> tuple[BrokerConnection, Transport]:
    connection = BrokerConnection("me", answer_seconds_max)
    transport: Any = Transport(connection)
    connection.connection_made(transport)
    return connection, transport


def frame(correlation_id: int, body: bytes) -> bytes:
    return struct.pack(">ii", 4 + len(body), correlation_id) + body


async def test_a_request_has_its_size_and_its_header_before_it() -> None:
    connection, transport = connected()
    connection.send(Api.FETCH, b"body", lambda _answer: None)
    header = struct.pack(">hhih", 1, 10, 1, 2) + b"me"
    assert transport.written == [struct.pack(">i", len(header) + 4) + header + b"body"]


@pytest.mark.parametrize("cut", [1, 3, 4, 7, 100])
async def test_answers_come_in_order_however_they_are_cut(cut: int) -> None:
    connection, _transport = connected()
    answers: list[bytes | None] = []
    for _ in range(3):
        connection.send(Api.PRODUCE, b"", answers.append)
    data = frame(1, b"one") + frame(2, b"") + frame(3, b"three" * 10)
    for start in range(0, len(data), cut):
        connection.data_received(data[start : start + cut])
    assert answers == [b"one", b"", b"three" * 10]


async def test_whoever_waits_is_told_that_the_connection_is_lost() -> None:
    connection, _transport = connected()
    answers: list[bytes | None] = []
    connection.send(Api.PRODUCE, b"", answers.append)
    connection.data_received(frame(1, b"one")[:6])
    connection.connection_lost(ConnectionResetError())
    assert answers == [None]
    assert not connection.open
    with pytest.raises(ConnectionError):
        connection.send(Api.PRODUCE, b"", answers.append)


async def test_an_answer_to_another_request_ends_the_connection() -> None:
    connection, transport = connected()
    answers: list[bytes | None] = []
    connection.send(Api.PRODUCE, b"", answers.append)
    connection.data_received(frame(9, b"one"))
    assert transport.aborted
    connection.connection_lost(None)
    assert answers == [None]


async def test_a_request_that_is_never_answered_ends_the_connection() -> None:
    connection, transport = connected(answer_seconds_max=0.01)
    connection.send(Api.PRODUCE, b"", lambda _answer: None)
    async with asyncio.timeout(5):
        await transport.ended.wait()


async def test_a_connection_without_requests_stays() -> None:
    connection, transport = connected(answer_seconds_max=0.01)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await transport.ended.wait()
    connection.close()
