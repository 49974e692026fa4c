"""Clients that do not read, and clients that leave, on a fake channel."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest

from consumers.sse.asgi_client import AsgiClient
from tests.support.written_client import WrittenClient


class Stuck(WrittenClient):
    """Takes no write."""

    async def send(self, _message: MutableMapping[str, Any]) -> None:
        await asyncio.Event().wait()


class Failing(WrittenClient):
    """Has a connection that fails."""

    async def send(self, _message: MutableMapping[str, Any]) -> None:
        raise ConnectionResetError


async def test_a_write_that_is_not_taken_is_cut() -> None:
    client = AsgiClient(Stuck().channel, write_seconds_max=10)
    now_s = asyncio.get_running_loop().time()
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(client.serve(client.body(b"x", more=True)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        client.cut_if_slow(now_s + 9)
        assert client.cut_reason is None
        client.cut_if_slow(now_s + 11)
        await asyncio.wait([serving])
    assert client.cut_reason == "slow"


async def test_time_between_writes_is_not_the_clients_fault() -> None:
    client = AsgiClient(WrittenClient().channel, write_seconds_max=10)

    async def respond() -> None:
        await client.body(b"x", more=True)
        client.cut_if_slow(asyncio.get_running_loop().time() + 1000)

    await client.serve(respond())
    assert client.cut_reason is None


async def test_a_client_that_leaves_ends_its_response() -> None:
    stuck = Stuck()
    client = AsgiClient(stuck.channel, write_seconds_max=10)
    asyncio.get_running_loop().call_soon(stuck.leave)
    await client.serve(client.body(b"x", more=True))
    assert client.cut_reason == "disconnected"
    assert stuck.on_gone is None


async def test_a_client_that_has_left_gets_no_response() -> None:
    stuck = Stuck()
    stuck.leave()
    client = AsgiClient(stuck.channel, write_seconds_max=10)
    await client.serve(client.body(b"x", more=True))
    assert client.cut_reason == "disconnected"


async def test_an_inner_timeout_does_not_pass_for_a_cut() -> None:
    client = AsgiClient(WrittenClient().channel, write_seconds_max=10)

    async def respond() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        await client.serve(respond())


async def test_a_failed_write_leaves_nothing_to_cut() -> None:
    client = AsgiClient(Failing().channel, write_seconds_max=10)
    with pytest.raises(ConnectionResetError):
        await client.serve(client.body(b"x", more=True))
    client.cut_if_slow(asyncio.get_running_loop().time() + 1000)
    assert client.cut_reason is None
