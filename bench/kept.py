"""Waits for a quiet machine, and keeps results unless it was busy with something else."""

import shlex
import sys
import time
from typing import Any, Final

from machine import busy_seconds, keep

# Cores that others may use: what a desktop does beside.
BUSY_CORES_MAX: Final = 0.3
LOOK_SECONDS: Final = 2.0
WAIT_SECONDS_MAX: Final = 60.0


def busy_cores() -> float:
    """How many cores anybody uses now; takes two seconds."""
    before_s, began_s = busy_seconds(), time.perf_counter()
    time.sleep(LOOK_SECONDS)
    return (busy_seconds() - before_s) / (time.perf_counter() - began_s)


def wait_for_quiet() -> float:
    """Wait, at most a minute, until nearly nothing runs: the cores that are in use then."""
    until_s = time.monotonic() + WAIT_SECONDS_MAX
    while (busy := busy_cores()) > BUSY_CORES_MAX and time.monotonic() < until_s:
        print(f"waiting for a quiet machine: {busy:.1f} cores are busy", file=sys.stderr, flush=True)
    return busy


def keep_if_quiet(name: str, results: Any, busy: float) -> None:
    """Keep ``results`` and say where, unless so many cores were busy before the benchmark began."""
    if busy > BUSY_CORES_MAX:
        print(f"not kept: {busy:.1f} cores were busy before the start (at most {BUSY_CORES_MAX})")
        return
    print(f"kept in {keep(name, 'python ' + shlex.join(sys.argv), results)}")
