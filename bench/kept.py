"""Keeps results, unless the machine was busy with something else."""

import shlex
import sys
from typing import Any

from machine import LOAD_BEFORE, QUIET_LOAD_MAX, keep


def keep_if_quiet(name: str, results: Any) -> None:
    """Keep ``results`` and say where; those of a machine that was busy before the benchmark began are not kept."""
    if LOAD_BEFORE > QUIET_LOAD_MAX:
        print(f"not kept: the load average was {LOAD_BEFORE:.1f} before the start (at most {QUIET_LOAD_MAX})")
        return
    print(f"kept in {keep(name, 'python ' + shlex.join(sys.argv), results)}")
