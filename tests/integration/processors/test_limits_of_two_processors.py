"""Limits are exact over several processors, and a processor that dies takes nothing of them with it."""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis

from tests.support.admitting import REQUESTS_MAX, SETTINGS, admit, admitted
from tests.support.redis_server import running_redis

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]
CALLS = 50


@pytest.fixture
def socket() -> Iterator[Path]:
    with running_redis() as path:
        yield path


@asynccontextmanager
async def processor(socket: Path, first: int, count: int) -> AsyncIterator[Process]:
    """One that is ready to admit ``count`` turns; killed at the end, without any goodbye."""
    command = (sys.executable, "-m", "tests.support.admitting", str(socket), str(first), str(count))
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
    try:
        assert await said(process) == "ready"
        yield process
    finally:
        process.kill()
        await process.wait()


async def said(process: Process) -> str:
    assert process.stdout is not None
    return (await process.stdout.readline()).decode().strip()


def begin(process: Process) -> None:
    assert process.stdin is not None
    process.stdin.write(b"go\n")


async def test_fifty_parallel_turns_on_a_limit_of_ten_over_two_processors_let_in_ten(socket: Path) -> None:
    async with AsyncExitStack() as running:
        half = CALLS // 2
        both = [await running.enter_async_context(processor(socket, first, half)) for first in (0, half)]
        for process in both:
            begin(process)
        let_in = [int(await said(process)) for process in both]
    assert sum(let_in) == REQUESTS_MAX


async def test_what_a_dead_processor_reserved_is_whole_again_after_deadline_and_grace(socket: Path) -> None:
    async with processor(socket, 0, REQUESTS_MAX) as doomed:
        begin(doomed)
        assert int(await said(doomed)) == REQUESTS_MAX
    async with Redis(unix_socket_path=str(socket)) as redis:
        heir = admit(redis)
        assert await admitted(heir, range(100, 101)) == 0
        # The server itself waits: for a replica that does not exist.
        await redis.wait(1, SETTINGS.settle_grace_s * 1_000 + 100)
        assert await admitted(heir, range(200, 200 + CALLS)) == REQUESTS_MAX
