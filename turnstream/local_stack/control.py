"""What another process can do to a run: find it, start it in the background, stop it, remove its data."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Final

from turnstream.local_stack import state
from turnstream.local_stack.errors import AlreadyRunningError, ExitCode, NotRunningError, StackError
from turnstream.local_stack.layout import Layout
from turnstream.local_stack.leftovers import end_leftovers
from turnstream.local_stack.logfiles import rotate, tail
from turnstream.local_stack.stack import STOP_S_MAX
from turnstream.local_stack.state import RunRecord, RunState

SUPERVISOR_LOG: Final = "supervisor"
DETACHED_START_S_MAX: Final = 300.0
_POLL_S: Final = 0.1


def live_run(layout: Layout) -> RunRecord:
    """Return the record of the live run. Raises `NotRunningError` when there is none."""
    record = state.read(layout.state_file)
    if record is None or not state.is_alive(record):
        message = "not running (start it with `turnstream up`)"
        raise NotRunningError(message)
    return record


def refuse_if_running(layout: Layout) -> None:
    """Raise `AlreadyRunningError` when a live run has this home."""
    with contextlib.suppress(NotRunningError):
        record = live_run(layout)
        message = f"already running (pid {record.pid}, {record.state}): see `turnstream status`, or `turnstream down`"
        raise AlreadyRunningError(message)


def stop_run(layout: Layout) -> None:
    """End the run of this home, and whatever a killed one left behind; return when no process of it is left.

    Raises `NotRunningError` when there was nothing to end.
    """
    record = state.read(layout.state_file)
    if record is None:
        message = "not running"
        raise NotRunningError(message)
    if state.is_alive(record):
        os.kill(record.pid, signal.SIGTERM)
        if not _is_gone(record, STOP_S_MAX):
            os.kill(record.pid, signal.SIGKILL)
            _is_gone(record, STOP_S_MAX)
    # An orderly end removed the file with its last child; after any other end there may be children.
    last = state.read(layout.state_file)
    if last is not None:
        end_leftovers(last)
        layout.state_file.unlink(missing_ok=True)


def _is_gone(record: RunRecord, wait_s_max: float) -> bool:
    deadline = time.monotonic() + wait_s_max
    while state.is_alive(record):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def wipe(layout: Layout) -> None:
    """Remove all data of this home; logs and the jar cache stay. Raises `AlreadyRunningError` while a run is live."""
    refuse_if_running(layout)
    shutil.rmtree(layout.data, ignore_errors=True)


def start_detached(layout: Layout, arguments: Sequence[str], on_record: Callable[[RunRecord], None]) -> RunRecord:
    """Start a supervisor with the arguments of `up` in a session of its own and return when it is ready.

    Raises `StackError` with the end of the supervisor's log when it ends before, or is not ready in time.
    """
    log = layout.log(SUPERVISOR_LOG)
    rotate(log)
    command = (sys.executable, "-m", "turnstream.local_stack", "supervise", *arguments)
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603 - our own module
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    deadline = time.monotonic() + DETACHED_START_S_MAX
    while process.poll() is None and time.monotonic() < deadline:
        record = state.read(layout.state_file)
        if record is not None and record.pid == process.pid:
            on_record(record)
            if record.state is RunState.READY:
                return record
        time.sleep(_POLL_S)
    raise _start_failure(process, tail(log, lines=30))


def _start_failure(process: subprocess.Popen[bytes], lines: tuple[str, ...]) -> StackError:
    code = process.poll()
    if code is None:
        process.terminate()
        return StackError(f"not ready within {DETACHED_START_S_MAX:.0f} s", lines)
    *before, last = lines or ("",)
    message = last.removeprefix("error: ") if last.startswith("error: ") else f"the start ended with exit code {code}"
    failure = StackError(message, tuple(line.removeprefix("  | ") for line in before))
    with contextlib.suppress(ValueError):
        failure.code = ExitCode(code)
    return failure
