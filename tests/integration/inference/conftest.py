"""A real Triton with the demonstration model and the OpenAI-compatible demonstration upstream."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from consumers.inference.openai_backend import OpenAiBackend
from consumers.inference.pool import BackendKind, PoolSettings
from consumers.inference.triton_backend import TritonBackend
from tests.integration.inference.triton_servers import free_port
from turnstream.local_stack.layout import Layout
from turnstream.local_stack.settings import StackSettings
from turnstream.local_stack.triton import find_triton, triton_part

START_S_MAX = 30.0
Backend = TritonBackend | OpenAiBackend


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, PoolSettings]]:
    home = tmp_path_factory.mktemp("inference")
    upstream = free_port()
    pools = {
        "openai": PoolSettings(
            backend=BackendKind.OPENAI, url=f"http://127.0.0.1:{upstream}/v1", continues_prefix=True, silence_s_max=10
        )
    }
    with ExitStack() as stack:
        command = [sys.executable, "-m", "turnstream.local_stack.demo_upstream", "--port", str(upstream)]
        stack.enter_context(running(command, home / "upstream.log"))
        build = find_triton()
        if not isinstance(build, str):
            grpc_port = free_port()
            layout = Layout(home=home / "home", jars=home / "jars")
            layout.create()
            models = StackSettings().model_repository()
            part = triton_part(layout, build, models, grpc_port=grpc_port, http_port=free_port())
            stack.enter_context(running(list(part.argv), home / "triton.log", dict(part.environment)))
            pools["triton"] = PoolSettings(url=f"127.0.0.1:{grpc_port}", silence_s_max=10)
        yield pools


@pytest.fixture(params=["triton", "openai"])
async def backend(request: pytest.FixtureRequest, servers: dict[str, PoolSettings]) -> AsyncIterator[Backend]:
    if request.param not in servers:
        pytest.skip("this machine cannot run Triton")
    settings = servers[request.param]
    made: Backend = TritonBackend(settings) if request.param == "triton" else OpenAiBackend(settings)
    async with asyncio.timeout(START_S_MAX):
        while not await made.ready():  # noqa: ASYNC110  # a server tells nobody that it is up
            await asyncio.sleep(0.1)
    yield made
    await made.close()


def running(command: list[str], log: Path, environment: dict[str, str] | None = None) -> ExitStack:
    stack = ExitStack()
    output = stack.enter_context(log.open("wb"))
    process = subprocess.Popen(  # noqa: S603  # our own programs
        command, stdout=output, stderr=output, env={**os.environ, **(environment or {})}
    )
    stack.callback(process.wait, 10)
    stack.callback(process.terminate)
    return stack
