"""Two real Triton servers under one turn: the answer goes on wherever a server is left, or ends with an error."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from consumers.inference.backend_set import BackendSet
from consumers.inference.core import InferenceSettings
from consumers.inference.pool import PoolSettings
from consumers.inference.stage import make_backend
from schemas.tokens import Failed, Finished
from tests.integration.inference.triton_servers import TritonServer, triton_server
from tests.unit.inference.inference_fakes import World, make_request, receive

pytestmark = [pytest.mark.integration, pytest.mark.timeout(90)]

TOKENS = 60
PROMPT = f"[[demo first_ms=1 gap_ms=30 tokens={TOKENS}]]"
START_SECONDS_MAX = 30.0


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[list[TritonServer]]:
    with triton_server(tmp_path / "a") as a, triton_server(tmp_path / "b") as b:
        yield [a, b]


@asynccontextmanager
async def pool_of(servers: list[TritonServer]) -> AsyncIterator[BackendSet]:
    """A watched pool whose servers are all ready."""
    backend = make_backend(PoolSettings(url=",".join(server.url for server in servers)))
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(backend.watch())
        async with asyncio.timeout(START_SECONDS_MAX):
            for one in backend.servers:
                while not await one.ready():  # noqa: ASYNC110 - a server tells nobody that it is up
                    await asyncio.sleep(0.1)
        yield backend
        watching.cancel()
    await backend.close()


def busy_server(backend: BackendSet, servers: list[TritonServer]) -> TritonServer:
    """The server that the only turn runs on."""
    (url,) = [name for name, in_flight in backend.in_flight.items() if in_flight]
    return next(server for server in servers if server.url == url)


async def whole_answer(backend: BackendSet) -> str:
    prompt = PROMPT.replace("gap_ms=30", "gap_ms=0")
    return "".join([piece.text async for piece in backend.generate(make_request(text=prompt), "")])


def assert_complete(world: World, expected: str) -> None:
    assert world.log.answer().text == expected
    assert isinstance(world.log.answer().state.terminal, Finished)
    [bill] = world.log.bills()
    assert bill.usage.completion_tokens == TOKENS


@pytest.mark.parametrize("death", [signal.SIGKILL, signal.SIGSTOP])
async def test_the_other_server_writes_on_where_the_first_was_lost(
    servers: list[TritonServer], death: signal.Signals
) -> None:
    world = World()
    async with pool_of(servers) as backend:
        expected = await whole_answer(backend)
        async with asyncio.TaskGroup() as group:
            turn = group.create_task(world.stage(backend=backend)(receive(make_request(text=PROMPT))))
            await world.log.accepted(20, turn)
            busy_server(backend, servers).send(death)
    assert_complete(world, expected)


async def test_with_every_server_gone_the_turn_ends_in_an_error(servers: list[TritonServer]) -> None:
    world = World(settings=InferenceSettings(outage_ms_max=3_000))
    async with pool_of(servers) as backend, asyncio.TaskGroup() as group:
        turn = group.create_task(world.stage(backend=backend)(receive(make_request(text=PROMPT))))
        await world.log.accepted(20, turn)
        for server in servers:
            server.kill()
        await turn
    terminal = world.log.answer().state.terminal
    assert isinstance(terminal, Failed)
    assert (terminal.refusal.status, terminal.refusal.error.code) == (503, "upstream_unavailable")
    [bill] = world.log.bills()
    assert 20 <= bill.usage.completion_tokens < TOKENS


async def test_the_only_server_may_start_again(tmp_path: Path) -> None:
    world = World(settings=InferenceSettings())
    with triton_server(tmp_path / "first") as first:
        async with pool_of([first]) as backend:
            expected = await whole_answer(backend)
            async with asyncio.TaskGroup() as group:
                turn = group.create_task(world.stage(backend=backend)(receive(make_request(text=PROMPT))))
                await world.log.accepted(20, turn)
                first.kill()
                await asyncio.sleep(3)
                with triton_server(tmp_path / "second", int(first.url.rpartition(":")[2])):
                    await turn
    assert_complete(world, expected)
