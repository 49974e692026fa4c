"""Ends what a killed supervisor left: recognised by pid and start time or by the run's own mark, never by name."""

from __future__ import annotations

import contextlib
import os
from typing import Final

import psutil

from turnstream.local_stack.child import RUN_ID_VARIABLE, kill_group
from turnstream.local_stack.state import RunRecord, process_created, same_process

_GONE_S_MAX: Final = 10.0


def end_leftovers(record: RunRecord) -> int:
    """Kill every process of a run whose supervisor is dead, wait until they are gone, return how many there were."""
    found = [psutil.Process(pid) for pid in _recorded(record) | _marked(record.run_id)]
    for process in found:
        with contextlib.suppress(psutil.NoSuchProcess):
            if os.getpgid(process.pid) == process.pid:
                kill_group(process.pid)
            process.kill()
    psutil.wait_procs(found, timeout=_GONE_S_MAX)
    return len(found)


def _recorded(record: RunRecord) -> set[int]:
    pids = {part.pid: part.pid_created for part in record.parts if part.pid is not None}
    return {pid for pid, created in pids.items() if same_process(created, process_created(pid))}


def _marked(run_id: str) -> set[int]:
    """Find the run's processes that are on no record, such as what a server had started itself."""
    pids = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(RUN_ID_VARIABLE) == run_id:
                pids.add(process.pid)
    return pids
