"""What more turns than the machine can answer do to it: goodput, and how fast the rest is told to come back.

    python bench/overload.py [--seconds 8] [--factors 1,2,5]

First the capacity is measured with closed loops; then turns arrive at random times (a Poisson process) at multiples of
it, and nobody retries. Whole answers of 30 tokens, 20 ms a token, eight at a time: the capacity is that of a small GPU
and not of the machine, which has to run the clients as well.
"""

import argparse
import asyncio
import random
import time
from dataclasses import dataclass, field
from typing import Any

import httpx2
from machine import keep
from record import percentile
from rich.console import Console
from rich.table import Table
from stacks import bench_stack

from turnstream.local_stack.stack import Stack

MODEL = "turnstream-fast"
BODY = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "[[demo tokens=30 gap_ms=20 first_ms=20]] Count."}],
}
CLOSED_CLIENTS = 16
IN_FLIGHT_MAX = 8
WARM_UP_SECONDS = 3
# Short against the measured time, so that the queue's bound shows.
QUEUE_SECONDS_MAX = 2


@dataclass
class Load:
    """What became of the turns of one load: seconds to the answer, or to the refusal."""

    offered: int = 0
    answered_s: list[float] = field(default_factory=list)
    refused_s: list[float] = field(default_factory=list)
    failed: int = 0

    def figures(self, seconds: float) -> dict[str, Any]:
        """Rates and percentiles."""
        return {
            "offered_per_s": round(self.offered / seconds, 1),
            "answered_per_s": round(len(self.answered_s) / seconds, 1),
            "answered_p50_s": round(percentile(self.answered_s, 0.5), 2),
            "answered_p99_s": round(percentile(self.answered_s, 0.99), 2),
            "refused_share": round(len(self.refused_s) / max(1, self.offered), 3),
            "refused_p50_ms": round(1000 * percentile(self.refused_s or [0.0], 0.5), 1),
            "refused_p99_ms": round(1000 * percentile(self.refused_s or [0.0], 0.99), 1),
            "failed": self.failed,
        }


async def ask(client: httpx2.AsyncClient, load: Load) -> None:
    """One turn, once."""
    load.offered += 1
    started = time.perf_counter()
    response = await client.post("/chat/completions", json=BODY)
    seconds = time.perf_counter() - started
    if response.status_code == 200:
        load.answered_s.append(seconds)
    elif response.status_code == 503:
        load.refused_s.append(seconds)
    else:
        load.failed += 1


async def closed(client: httpx2.AsyncClient, seconds: float) -> Load:
    """As many turns as so many clients get answered."""
    load, until = Load(), time.perf_counter() + seconds

    async def loop() -> None:
        while time.perf_counter() < until:
            await ask(client, load)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(CLOSED_CLIENTS):
            tasks.create_task(loop())
    return load


async def opened(client: httpx2.AsyncClient, rate: float, seconds: float) -> tuple[Load, float]:
    """Turns that arrive on their own, and the seconds until the last was over."""
    load, dice, started = Load(), random.Random(1), time.perf_counter()
    due = started
    async with asyncio.TaskGroup() as tasks:
        while due < started + seconds:
            due += dice.expovariate(rate)
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.create_task(ask(client, load))
    return load, time.perf_counter() - started


async def measure(stack: Stack, factors: list[float], seconds: float) -> dict[str, Any]:
    """The capacity, and each multiple of it after a pause."""
    headers = {"authorization": f"Bearer {stack.record.key}"}
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
    url = stack.record.base_url or ""
    async with httpx2.AsyncClient(base_url=url, headers=headers, timeout=60, limits=limits) as client:
        await closed(client, WARM_UP_SECONDS)
        capacity = len((await closed(client, seconds)).answered_s) / seconds
        results: dict[str, Any] = {"capacity_per_s": round(capacity, 1)}
        for factor in factors:
            await asyncio.sleep(QUEUE_SECONDS_MAX)
            load, took_s = await opened(client, factor * capacity, seconds)
            results[f"{factor:g}x"] = load.figures(took_s)
    return results


def show(results: dict[str, Any]) -> None:
    """One row per load."""
    columns = ("offered_per_s", "answered_per_s", "answered_p50_s", "answered_p99_s", "refused_share")
    columns += ("refused_p50_ms", "refused_p99_ms", "failed")
    table = Table("load", *columns, title=f"Overload; capacity {results['capacity_per_s']} turns/s")
    for name, row in results.items():
        if isinstance(row, dict):
            table.add_row(name, *(str(row[column]) for column in columns))
    Console(width=160).print(table)


def main() -> None:
    """Start a stack of its own, measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--factors", default="1,2,5")
    options = parser.parse_args()
    changed = {
        "TURNSTREAM_LOOPS__INFERENCE__HOLD__IN_FLIGHT_MAX": str(IN_FLIGHT_MAX),
        "TURNSTREAM_INGEST__QUEUE_SECONDS_MAX": str(QUEUE_SECONDS_MAX),
    }
    with bench_stack(changed=changed) as stack:
        factors = [float(text) for text in options.factors.split(",")]
        results = asyncio.run(measure(stack, factors, options.seconds))
    show(results)
    print(f"kept in {keep('overload', 'python bench/overload.py', results)}")


if __name__ == "__main__":
    main()
