"""What the pipeline adds to a chat, against the same Triton called directly, in turn, in one run.

    python bench/end_to_end.py [--loads 1,50,200] [--rounds 3] [--turns-min 20]

Each load is a number of clients that ask, read the answer to its end and ask again. The demonstration model answers
60 tokens, the first after 50 ms and one every 20 ms. ``added`` is the difference of the percentiles of both sides.
"""

import argparse
import asyncio
import json
import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from machine import cpu_seconds, keep
from rich.console import Console
from rich.table import Table
from streams import Streamed, direct_to_triton, percentile, through_edge

from consumers.inference.pool import PoolSettings
from consumers.inference.triton_backend import TritonBackend
from turnstream.local_stack.settings import StackSettings
from turnstream.local_stack.stack import Stack

TOKENS = 60
PACED = f"Measure this. [[demo first_ms=50 gap_ms=20 tokens={TOKENS}]]"
FLAT_OUT = f"Measure this. [[demo first_ms=0 gap_ms=0 tokens={10 * TOKENS}]]"
FLAT_OUT_CLIENTS = 32
MODEL = "turnstream-fast"
OURS = ("edge", "processors", "inference", "sink", "windows")

UNLIMITED = {"requests_per_minute": 1_000_000, "tokens_per_minute": 1_000_000_000}

Ask = Callable[[str], Awaitable[Streamed]]


async def load(ask: Ask, content: str, clients: int, turns_min: int) -> tuple[list[Streamed], float]:
    """At least ``turns_min`` turns from ``clients`` closed loops, and the seconds they took together."""
    each = max(1, -(-turns_min // clients))
    done: list[Streamed] = []

    async def client(number: int) -> None:
        # Spread over one answer's duration, as real clients are.
        await asyncio.sleep(number / clients * TOKENS * 0.02)
        done.extend([await ask(content) for _ in range(each)])

    started = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for number in range(clients):
            tasks.create_task(client(number))
    return done, time.perf_counter() - started


def summary(done: list[Streamed], seconds: float) -> dict[str, float]:
    """Milliseconds to the first text, and tokens a second."""
    first_ms = [1000 * streamed.first_s for streamed in done if streamed.first_s is not None]
    return {
        "turns": len(done),
        "failed": len(done) - len(first_ms),
        "ttft_p50_ms": round(percentile(first_ms, 0.5), 1),
        "ttft_p99_ms": round(percentile(first_ms, 0.99), 1),
        "tokens_per_s": round(sum(streamed.tokens for streamed in done) / seconds),
    }


async def measure(stack: Stack, loads: list[int], rounds: int, turns_min: int) -> dict[str, Any]:
    """Both sides at every load, in turn, ``rounds`` times; the turns of a side are pooled over the rounds."""
    record = stack.record
    edge = ("127.0.0.1", record.ports["edge"])
    backend = TritonBackend(PoolSettings(url=stack.endpoints.triton_grpc or ""))
    sides: dict[str, Ask] = {
        "direct": lambda content: direct_to_triton(backend, content),
        "turnstream": lambda content: through_edge(edge, record.key or "", MODEL, content),
    }
    for ask in sides.values():
        await load(ask, PACED, 4, 8)  # warm caches and connections
    results: dict[str, Any] = {}
    for clients in loads:
        results[f"{clients} paced"] = await _compare(
            stack, sides, PACED, clients=clients, rounds=rounds, turns_min=turns_min
        )
    results[f"{FLAT_OUT_CLIENTS} flat out"] = await _compare(
        stack, sides, FLAT_OUT, clients=FLAT_OUT_CLIENTS, rounds=rounds, turns_min=64
    )
    await backend.close()
    return results


async def _compare(
    stack: Stack, sides: dict[str, Ask], content: str, *, clients: int, rounds: int, turns_min: int
) -> dict[str, Any]:
    pooled: dict[str, tuple[list[Streamed], float]] = {name: ([], 0.0) for name in sides}
    spent_s = dict.fromkeys(OURS, 0.0)
    for _ in range(rounds):
        for name, ask in sides.items():
            before = {part: cpu_seconds(stack.part(part).pid or 0) for part in OURS}
            done, seconds = await load(ask, content, clients, max(turns_min, 2 * clients))
            pooled[name] = (pooled[name][0] + done, pooled[name][1] + seconds)
            if name == "turnstream":
                for part in OURS:
                    spent_s[part] += cpu_seconds(stack.part(part).pid or 0) - before[part]
    compared: dict[str, Any] = {name: summary(*pooled[name]) for name in sides}
    for share in ("p50", "p99"):
        compared[f"added_{share}_ms"] = round(
            compared["turnstream"][f"ttft_{share}_ms"] - compared["direct"][f"ttft_{share}_ms"], 1
        )
    tokens = sum(streamed.tokens for streamed in pooled["turnstream"][0])
    compared["cpu_us_per_token"] = {part: round(1e6 * seconds / tokens, 1) for part, seconds in spent_s.items()}
    return compared


def show(results: dict[str, Any]) -> None:
    """The table that the README quotes."""
    table = Table(
        "clients",
        "TTFT p50 (p99) direct",
        "TTFT p50 (p99) Turnstream",
        "added p50 (p99)",
        "tokens/s direct",
        "tokens/s Turnstream",
        "our CPU a token",
        title="Turnstream against Triton called directly",
    )
    for name, row in results.items():
        direct, ours = row["direct"], row["turnstream"]
        table.add_row(
            name,
            f"{direct['ttft_p50_ms']} ({direct['ttft_p99_ms']}) ms",
            f"{ours['ttft_p50_ms']} ({ours['ttft_p99_ms']}) ms",
            f"{row['added_p50_ms']} ({row['added_p99_ms']}) ms",
            f"{direct['tokens_per_s']:,}",
            f"{ours['tokens_per_s']:,}",
            f"{sum(row['cpu_us_per_token'].values()):.0f} us",
        )
    Console(width=160).print(table)


def main() -> None:
    """Start a stack of its own, measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loads", default="1,50,200")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--turns-min", type=int, default=20)
    options = parser.parse_args()
    shared = StackSettings()
    # The limiter works as ever, it only never says no.
    os.environ["TURNSTREAM_PLANS"] = json.dumps({"free": UNLIMITED, "enterprise": UNLIMITED})
    with tempfile.TemporaryDirectory(prefix="turnstream-bench-") as home:
        settings = shared.model_copy(update={"home": Path(home), "jars": shared.layout().jars})
        with Stack(settings) as stack:
            loads = [int(text) for text in options.loads.split(",")]
            results = asyncio.run(measure(stack, loads, options.rounds, options.turns_min))
    show(results)
    print(f"kept in {keep('end-to-end', 'make bench', results)}")


if __name__ == "__main__":
    main()
