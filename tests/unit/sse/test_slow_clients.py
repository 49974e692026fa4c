"""Clients that do not read, and clients that leave, on a fake ASGI channel."""

import asyncio

import pytest
from starlette.types import Message

from consumers.sse.asgi_client import AsgiClient


async def stays() -> Message:
    await asyncio.Event().wait()
    raise AssertionError


async def takes(_message: Message) -> None:
    """A client that takes every write at once."""


async def never_takes(_message: Message) -> None:
    await asyncio.Event().wait()


async def test_a_write_that_is_not_taken_is_cut() -> None:
    client = AsgiClient(stays, never_takes, write_seconds_max=10)
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
    client = AsgiClient(stays, takes, write_seconds_max=10)

    async def respond() -> None:
        await client.body(b"x", more=True)
        client.cut_if_slow(asyncio.get_running_loop().time() + 1000)

    await client.serve(respond())
    assert client.cut_reason is None


async def test_a_client_that_leaves_ends_its_response() -> None:
    async def leaves() -> Message:
        return {"type": "http.disconnect"}

    client = AsgiClient(leaves, never_takes, write_seconds_max=10)
    await client.serve(client.body(b"x", more=True))
    assert client.cut_reason == "disconnected"


async def test_an_inner_timeout_does_not_pass_for_a_cut() -> None:
    client = AsgiClient(stays, takes, write_seconds_max=10)

    async def respond() -> None:
        raise TimeoutError

    with pytest.raises(ExceptionGroup):
        await client.serve(respond())


async def test_a_failed_write_leaves_nothing_to_cut() -> None:
    async def fails(_message: Message) -> None:
        raise OSError

    client = AsgiClient(stays, fails, write_seconds_max=10)
    with pytest.raises(ExceptionGroup):
        await client.serve(client.body(b"x", more=True))
    client.cut_if_slow(asyncio.get_running_loop().time() + 1000)
    assert client.cut_reason is None
