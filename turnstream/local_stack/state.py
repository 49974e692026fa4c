"""The state file of a run, and what may be concluded from one that is found."""

from __future__ import annotations

import contextlib
import os
from enum import StrEnum
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict, ValidationError

from turnstream.local_stack.parts import PartState, PartStatus

# psutil computes a start time from the boot time, which moves a little when the clock is corrected.
_CREATED_S_TOLERANCE = 2.0


class RunState(StrEnum):
    """Where a whole run is in its life."""

    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"


class RunRecord(BaseModel):
    """`stack.json`: who supervises, where everything listens, and how every part does. Times are Unix seconds."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    pid: int
    pid_created: float
    state: RunState
    base_url: str | None
    key: str | None
    ports: dict[str, int]
    environment: dict[str, str]
    notes: tuple[str, ...]
    parts: tuple[PartStatus, ...]

    @property
    def all_ready(self) -> bool:
        """True when the run and every part of it serve."""
        return self.state is RunState.READY and all(part.state is PartState.READY for part in self.parts)


def same_process(recorded: float | None, created: float | None) -> bool:
    """Tell whether a recorded start time is that of the process which has the pid now (None: no such process)."""
    return recorded is not None and created is not None and abs(recorded - created) < _CREATED_S_TOLERANCE


def process_created(pid: int) -> float | None:
    """Return a process's start time, or None when there is no such process (a zombie counts as none)."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    return None


def is_alive(record: RunRecord) -> bool:
    """Tell whether the supervisor that wrote the record still runs."""
    return same_process(record.pid_created, process_created(record.pid))


def read(file: Path) -> RunRecord | None:
    """Return the record, or None when there is none or it is not one of ours."""
    try:
        return RunRecord.model_validate_json(file.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def write(file: Path, record: RunRecord) -> None:
    """Replace the file at once: a reader sees the old record or the new one. Only the user may read it."""
    partial = file.with_name(f"{file.name}.part")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as output:
        output.write(record.model_dump_json(indent=2))
    partial.replace(file)
