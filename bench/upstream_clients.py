"""What it costs to read a token from an OpenAI-compatible upstream: our client, aiohttp's and httpx2's, in turn.

    python bench/upstream_clients.py [--streams 100] [--rounds 3]

Every stream has 60 tokens, 20 ms apart, from the demonstration upstream in a process of its own; the figure is this
process's CPU time, without decoding.
"""

import argparse
import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import httpx2
import uvloop
from machine import keep
from rich.console import Console
from rich.table import Table

from consumers.inference.http_client import HttpClient
from turnstream.local_stack.ports import LOOPBACK

TOKENS = 60
BODY = {
    "model": "demo",
    "stream": True,
    "messages": [{"role": "user", "content": f"[[demo first_ms=50 gap_ms=20 tokens={TOKENS}]]"}],
}
Reader = Callable[[], Awaitable[None]]


async def read_ours(url: str, streams: int) -> float:
    """CPU seconds of ``streams`` at once with ``consumers.inference.http_client``."""
    client = HttpClient(url, {}, connect_s_max=5, silence_s_max=60, connections_max=streams)

    async def one() -> None:
        async with client.request("POST", "/chat/completions", BODY) as response:
            while await response.piece():
                pass

    spent = await _spent(one, streams)
    await client.close()
    return spent


async def read_aiohttp(url: str, streams: int) -> float:
    """The same with aiohttp."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=streams)) as client:

        async def one() -> None:
            async with client.post(f"{url}/chat/completions", json=BODY) as response:
                async for _ in response.content.iter_any():
                    pass

        return await _spent(one, streams)


async def read_httpx(url: str, streams: int) -> float:
    """The same with httpx2."""
    async with httpx2.AsyncClient(timeout=60, limits=httpx2.Limits(max_connections=streams)) as client:

        async def one() -> None:
            async with client.stream("POST", f"{url}/chat/completions", json=BODY) as response:
                async for _ in response.aiter_bytes():
                    pass

        return await _spent(one, streams)


async def _spent(one: Reader, streams: int) -> float:
    await one()
    before = time.process_time()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(streams):
            tasks.create_task(_one(one))
    return time.process_time() - before


async def _one(one: Reader) -> None:
    await one()


SIDES = {"ours": read_ours, "aiohttp": read_aiohttp, "httpx2": read_httpx}


def measure(streams: int, rounds: int) -> dict[str, Any]:
    """CPU microseconds a token: the least of ``rounds``, which others disturb the least."""
    port = _free_port()
    command = [sys.executable, "-m", "turnstream.local_stack.demo_upstream", "--port", str(port)]
    upstream = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603 - our own
    url = f"http://{LOOPBACK}:{port}/v1"
    least: dict[str, float] = {}
    try:
        _await_ready(url)
        for _ in range(rounds):
            for name, read in SIDES.items():
                with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                    per_token = 1e6 * runner.run(read(url, streams)) / (streams * TOKENS)
                least[name] = min(least.get(name, per_token), per_token)
    finally:
        upstream.terminate()
        upstream.wait()
    return {name: {"cpu_us_per_token": round(value, 1)} for name, value in least.items()}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
    return port


def _await_ready(url: str) -> None:
    for _ in range(200):
        try:
            httpx2.get(f"{url}/models")
        except httpx2.ConnectError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit("the demonstration upstream did not start")


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    results = measure(options.streams, options.rounds)
    table = Table("client", "CPU a token", title=f"Reading {options.streams} streams")
    for name, row in results.items():
        table.add_row(name, f"{row['cpu_us_per_token']} us")
    Console().print(table)
    print(f"kept in {keep('upstream-clients', 'python bench/upstream_clients.py', results)}")


if __name__ == "__main__":
    main()
