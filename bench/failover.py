"""How long streams stand still when the process that generates them is killed: dynamic against static membership.

    python bench/failover.py [--kills 6] [--clients 6]

Two inference processes share the turns; one of them is killed (SIGKILL) while every client reads, and is started again
by the supervisor. The pause is the longest silence between two pieces that a stream shows, for the streams that were on
the killed process: those with a silence of more than ten times the pace of the model.
"""

import argparse
import asyncio
import os
import signal
import time
from dataclasses import replace
from itertools import pairwise
from typing import Any

import httpx2
from machine import keep
from record import percentile
from rich.console import Console
from rich.table import Table
from stacks import fresh_stack

from turnstream.local_stack.parts import PartState
from turnstream.local_stack.plan import StackOptions
from turnstream.local_stack.processes import PROCESSES, OurProcess, replicated
from turnstream.local_stack.stack import Stack

MODEL = "turnstream-fast"
GAP_MS = 20
TOKENS = 300
READ_BEFORE_KILL_S = 1.5
READY_SECONDS_MAX = 60
VICTIMS = ("inference", "inference-2")


async def silence_of_stream(stack: Stack) -> float:
    """The longest silence in seconds between two events of one streamed answer."""
    content = f"[[demo tokens={TOKENS} gap_ms={GAP_MS}]] Count."
    body = {"model": MODEL, "stream": True, "messages": [{"role": "user", "content": content}]}
    headers = {"authorization": f"Bearer {stack.record.key}"}
    times: list[float] = []
    url = f"{stack.record.base_url}/chat/completions"
    async with httpx2.AsyncClient(timeout=120) as client, client.stream("POST", url, json=body, headers=headers) as got:
        times += [time.monotonic() async for line in got.aiter_lines() if line.startswith("data: {")]
    return max(after - before for before, after in pairwise(times))


async def kill_and_measure(stack: Stack, victim: str, clients: int) -> list[float]:
    """The pauses of the streams that were on ``victim``."""
    async with asyncio.TaskGroup() as tasks:
        streams = [tasks.create_task(silence_of_stream(stack)) for _ in range(clients)]
        await asyncio.sleep(READ_BEFORE_KILL_S)
        killed = stack.part(victim).pid or 0
        os.kill(killed, signal.SIGKILL)
    until_s = time.monotonic() + READY_SECONDS_MAX
    while not (stack.part(victim).state is PartState.READY and stack.part(victim).pid != killed):
        if time.monotonic() > until_s:
            raise TimeoutError(f"{victim} did not come back")
        await asyncio.sleep(0.1)
    return [pause for stream in streams if (pause := stream.result()) > 10 * GAP_MS / 1000]


def without_instance(row: OurProcess) -> OurProcess:
    """The process as a dynamic member of its groups."""
    return replace(row, argv=("env", "-u", "TURNSTREAM_KAFKA__INSTANCE_ID", *row.argv))


def measure(membership: str, kills: int, clients: int) -> dict[str, Any]:
    """A stack of its own, killed at ``kills`` times."""
    rows = replicated(PROCESSES, 2)
    if membership == "dynamic":
        rows = tuple(without_instance(row) for row in rows)
    with fresh_stack(StackOptions(processes=rows)) as stack:
        pauses = [
            pause
            for number in range(kills)
            for pause in asyncio.run(kill_and_measure(stack, VICTIMS[number % 2], clients))
        ]
    return {
        "kills": kills,
        "streams_hit": len(pauses),
        "pause_p50_s": round(percentile(pauses, 0.5), 2),
        "pause_max_s": round(max(pauses, default=0), 2),
    }


def main() -> None:
    """Measure both, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=6)
    parser.add_argument("--clients", type=int, default=6)
    options = parser.parse_args()
    results = {name: measure(name, options.kills, options.clients) for name in ("dynamic", "static")}
    table = Table("membership", "kills", "streams hit", "pause p50", "pause max", title="Killed inference processes")
    for name, row in results.items():
        table.add_row(name, *(str(row[column]) for column in ("kills", "streams_hit", "pause_p50_s", "pause_max_s")))
    Console(width=120).print(table)
    print(f"kept in {keep('failover', 'python bench/failover.py', results)}")


if __name__ == "__main__":
    main()
