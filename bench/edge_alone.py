"""What one core of the edge carries: events a second, open streams, and the memory of streams that idle.

    python bench/edge_alone.py [--streams 300] [--idle 2000,10000]

Behind the edge there is nothing but the log: ``token_feeder.py`` answers what was submitted, one record a token. The
clients ask over HTTP, so keys, quotas' headers, cursors, heartbeats and the readiness probe are all at work. Beside it
stands the fake upstream, which writes the same stream and promises nothing.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from kept import keep_if_quiet, wait_for_quiet
from rich.console import Console
from rich.table import Table
from sides import HERE, STOP_SECONDS_MAX, Load, Pooled, Side, fake_upstream, run_load
from stacks import MODEL, STORES, bench_stack, pids

EVENTS_PER_STREAM: Final = 50
WARM: Final = Load(8, seconds=2, warm_up=1.5)


@contextmanager
def feeder() -> Iterator[int]:
    """The pid of a feeder, ready."""
    command = [sys.executable, str(HERE / "token_feeder.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own program
        try:
            if process.stdout is None or process.stdout.readline() != "ready\n":
                raise SystemExit("the feeder did not start")
            yield process.pid
        finally:
            process.kill()
            process.wait(STOP_SECONDS_MAX)


def paced(side: Side, load: Load, rounds: int) -> dict[str, Any]:
    """CPU an event of the one process that ``side`` watches first, and whether its clients got all."""
    pooled = Pooled()
    for _ in range(rounds):
        pooled.add(run_load(side, load))
    figures = pooled.figures()
    cost = figures["cpu_us_per_token"][next(iter(side.watch))]
    return {
        "events_per_s": figures["tokens_per_s"],
        "cpu_us_per_event": cost,
        "events_per_cpu_s": round(1e6 / cost),
        "streams_per_core": round(1e6 / cost / EVENTS_PER_STREAM),
        "gap_p99_ms": figures["gap_p99_ms"],
        "token_faults": figures["token_faults"],
        "failed": figures["failed"],
    }


def idle(side: Side, streams: int, seconds: float) -> dict[str, Any]:
    """What so many streams cost while nothing comes. Raises CalledProcessError."""
    name, pid = next(iter(side.watch.items()))
    command = [sys.executable, str(HERE / "idle_client.py"), "--url", side.url, "--key", side.key]
    command += ["--model", side.model, "--streams", str(streams), "--seconds", str(seconds), "--watch", f"{name}={pid}"]
    ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603 - our own program
    found: dict[str, Any] = json.loads(ran.stdout)
    # By CPU alone; their memory may allow fewer.
    return found | {"streams_per_core": round(found["streams"] / max(0.001, found["cores_while_idle"]))}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Paced streams at each number of clients, then idle ones on a fresh edge for each number."""
    loads = [Load(int(text), seconds=options.seconds) for text in options.streams.split(",")]
    numbers = [int(text) for text in options.idle.split(",") if text]
    results: dict[str, Any] = {"paced": {}, "idle": {}}
    with fake_upstream() as (upstream, upstream_pid):
        bare = Side("upstream", upstream, watch={"upstream": upstream_pid})
        with edge() as side:
            run_load(side, WARM)
            for load in loads:
                row = results["paced"][str(load.streams)] = paced(side, load, options.rounds)
                row["direct"] = paced(bare, load, options.rounds)
        for number in numbers:
            with edge() as side:
                run_load(side, WARM)
                row = results["idle"][str(number)] = idle(side, number, options.idle_seconds)
            row["direct"] = idle(bare, number, 2)
    return results


@contextmanager
def edge() -> Iterator[Side]:
    """An edge with its stores and a feeder behind it."""
    with bench_stack(servers=STORES, processes=("edge",)) as stack:
        os.environ.update(stack.environment())
        with feeder() as fed_by:
            ends = stack.endpoints
            watch = {"edge": pids(stack)["edge"], "kafka": pids(stack)["kafka"], "feeder": fed_by}
            yield Side("edge", ends.base_url or "", ends.key or "", MODEL, watch=watch)


def show(results: dict[str, Any]) -> None:
    """Two tables."""
    columns = ("streams", "events/s", "CPU an event", "events/s a core", "streams a core", "gap p99", "wrong", "direct")
    table = Table(*columns, title="The edge alone, a token every 20 ms")
    for streams, row in results["paced"].items():
        table.add_row(
            streams,
            f"{row['events_per_s']:,}",
            f"{row['cpu_us_per_event']} us",
            f"{row['events_per_cpu_s']:,}",
            f"{row['streams_per_core']:,}",
            f"{row['gap_p99_ms']} ms",
            str(row["token_faults"] + row["failed"]),
            f"{row['direct']['cpu_us_per_event']} us an event",
        )
    Console(width=140).print(table)
    table = Table("idle streams", "refused", "memory a stream", "cores while idle", "opened/s", "direct")
    for row in results["idle"].values():
        table.add_row(
            f"{row['streams']:,}",
            str(row["refused"]),
            f"{row['bytes_per_stream'] / 1024:.1f} KiB",
            str(row["cores_while_idle"]),
            str(row["opened_per_s"]),
            f"{row['direct']['bytes_per_stream'] / 1024:.1f} KiB",
        )
    Console(width=140).print(table)


def main() -> None:
    """Start, measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", default="50,300")
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--idle", default="2000,10000", help="numbers of idle streams; empty for none")
    parser.add_argument("--idle-seconds", type=float, default=30, help="longer than a heartbeat's 10 s")
    options = parser.parse_args()
    busy = wait_for_quiet()
    results = measure(options)
    show(results)
    keep_if_quiet("edge-alone", results, busy)


if __name__ == "__main__":
    main()
