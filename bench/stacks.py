"""Stacks to measure: everything on, as a deployment has it, with quotas that never say no."""

import json
import os
import resource
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from turnstream.local_stack.plan import SERVERS, StackOptions
from turnstream.local_stack.pools import UPSTREAM_URL
from turnstream.local_stack.processes import PROCESSES
from turnstream.local_stack.settings import StackSettings
from turnstream.local_stack.stack import Stack

MODEL: Final = "turnstream-fast"
STORES: Final = ("kafka", "cassandra", "redis")
# The limiter works as ever, it only never says no.
UNLIMITED: Final = {"requests_per_minute": 100_000_000, "tokens_per_minute": 1_000_000_000_000}
IN_FLIGHT_MAX: Final = 4_096


def settings_for_load() -> dict[str, str]:
    """What is changed of our settings: quotas and sizes, nothing of what is promised."""
    return {
        "TURNSTREAM_PLANS": json.dumps({"free": UNLIMITED, "enterprise": UNLIMITED}),
        "TURNSTREAM_LOOPS__INFERENCE__HOLD__IN_FLIGHT_MAX": str(IN_FLIGHT_MAX),
        "TURNSTREAM_POOLS__FAST__CONNECTIONS_MAX": str(IN_FLIGHT_MAX),
        "TURNSTREAM_POOLS__CAPABLE__CONNECTIONS_MAX": str(IN_FLIGHT_MAX),
    }


@contextmanager
def fresh_stack(options: StackOptions) -> Iterator[Stack]:
    """A running stack in a folder of its own, gone afterwards; only the jars are those that are there."""
    shared = StackSettings()
    with tempfile.TemporaryDirectory(prefix="turnstream-bench-") as home:
        settings = shared.model_copy(update={"home": Path(home), "jars": shared.layout().jars})
        with Stack(settings, options) as stack:
            yield stack


@contextmanager
def bench_stack(
    upstream: str | None = None,
    *,
    servers: Sequence[str] = SERVERS,
    processes: Sequence[str] | None = None,
    changed: Mapping[str, str] | None = None,
) -> Iterator[Stack]:
    """A ``fresh_stack`` with settings for load.

    ``upstream`` is the base URL of an OpenAI-compatible server that serves the pools; None: Triton does.
    ``processes`` are the names of ours that run; None: all. What the user has set wins over ``settings_for_load``. The
    environment is as before when the block is left.
    """
    raise_open_files()
    wanted = settings_for_load() | dict(changed or {})
    if upstream is not None:
        wanted[UPSTREAM_URL] = upstream
    before = dict(os.environ)
    for name, value in wanted.items():
        os.environ.setdefault(name, value)
    rows = PROCESSES if processes is None else tuple(row for row in PROCESSES if row.name in processes)
    try:
        with fresh_stack(StackOptions(servers=tuple(servers), processes=rows)) as stack:
            yield stack
    finally:
        os.environ.clear()
        os.environ.update(before)


def raise_open_files() -> None:
    """As many open files as this user may have, for us and what we start."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def pids(stack: Stack) -> dict[str, int]:
    """The processes of a stack by name: ours, and the servers."""
    return {part.name: part.pid for part in stack.record.parts if part.pid is not None}


def ours(names: Sequence[str]) -> list[str]:
    """Those of ``names`` that are processes of ours, replicas included."""
    rows = {row.name for row in PROCESSES}
    return [name for name in names if name in rows or name.rpartition("-")[0] in rows]
