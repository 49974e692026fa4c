"""Waits for a quiet machine, and keeps results unless it was busy with something else."""

import os
import shlex
import sys
import time
from typing import Any, Final

from machine import busy_seconds, keep

# Cores that others may use: what a desktop does beside. The load average shows what only pauses.
BUSY_CORES_MAX: Final = 0.3
LOAD_AVERAGE_MAX: Final = 1.5
LOOK_SECONDS: Final = 3.0
# Twice the time in which the load average forgets the benchmark before this one.
WAIT_SECONDS_MAX: Final = 120.0


def busy_with() -> str | None:
    """What keeps the machine busy, in words; None if it is quiet. Takes three seconds."""
    before_s, began_s = busy_seconds(), time.perf_counter()
    time.sleep(LOOK_SECONDS)
    cores = (busy_seconds() - before_s) / (time.perf_counter() - began_s)
    average = os.getloadavg()[0]
    if cores <= BUSY_CORES_MAX and average <= LOAD_AVERAGE_MAX:
        return None
    return f"{cores:.1f} cores were busy before the start, the load average was {average:.1f}"


def wait_for_quiet() -> str | None:
    """Wait, at most two minutes, until nearly nothing runs: ``busy_with`` in the end."""
    until_s = time.monotonic() + WAIT_SECONDS_MAX
    if (busy := busy_with()) is not None:
        print("waiting for a quiet machine ...", file=sys.stderr, flush=True)
    while busy is not None and time.monotonic() < until_s:
        busy = busy_with()
    return busy


def keep_if_quiet(name: str, results: Any, busy: str | None) -> None:
    """Keep ``results`` and say where, unless the machine was busy before the benchmark began."""
    if busy is not None:
        print(f"not kept: {busy} (at most {BUSY_CORES_MAX} and {LOAD_AVERAGE_MAX})")
        return
    print(f"kept in {keep(name, 'python ' + shlex.join(sys.argv), results)}")
