"""What it costs to read a token from an OpenAI-compatible upstream: our client, aiohttp's and httpx2's, in turn.

    python bench/upstream_clients.py [--streams 100] [--rounds 3]

Every stream has 60 tokens, 20 ms apart, from the fake upstream in a process of its own; the figure is this process's
CPU time, without decoding.
"""

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial

import aiohttp
import httpx2
from kept import keep_if_quiet, wait_for_quiet
from least import least_of_rounds
from rich.console import Console
from rich.table import Table
from sides import fake_upstream
from words import LETTERS, TAG_CHARS, question

from consumers.inference.http_client import HttpClient

TOKENS = 60
BODY = {
    "model": "fake",
    "stream": True,
    "messages": [{"role": "user", "content": question(LETTERS[0] * TAG_CHARS, tokens=TOKENS, first_ms=50, gap_ms=20)}],
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


def measure(streams: int, rounds: int) -> dict[str, dict[str, float]]:
    """CPU microseconds a token."""
    with fake_upstream() as (url, _):
        return least_of_rounds(rounds, {name: partial(_per_token, read, url, streams) for name, read in SIDES.items()})


async def _per_token(read: Callable[[str, int], Awaitable[float]], url: str, streams: int) -> dict[str, float]:
    return {"cpu_us_per_token": 1e6 * await read(url, streams) / (streams * TOKENS)}


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    busy = wait_for_quiet()
    results = measure(options.streams, options.rounds)
    table = Table("client", "CPU a token", title=f"Reading {options.streams} streams")
    for name, row in results.items():
        table.add_row(name, f"{row['cpu_us_per_token']:.1f} us")
    Console().print(table)
    keep_if_quiet("upstream-clients", results, busy)


if __name__ == "__main__":
    main()
