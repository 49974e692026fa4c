"""One child process: started in a session of its own, ended with everything that it started itself."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from turnstream.local_stack.errors import PartFailedError
from turnstream.local_stack.logfiles import tail
from turnstream.local_stack.parts import OneShot

RUN_ID_VARIABLE: Final = "TURNSTREAM_STACK_RUN"
"""Carried by every process of a run, so that a later run recognises what a killed supervisor left behind."""

SHOWN_LOG_LINES: Final = 15
_TETHER: Final = str(Path(__file__).with_name("tether.py"))


def tethered(argv: Sequence[str]) -> tuple[str, ...]:
    """Return the command that runs `argv` and dies with this process, where the kernel can do that."""
    if sys.platform != "linux":
        return tuple(argv)
    return (sys.executable, "-I", "-S", _TETHER, str(os.getpid()), *argv)


@dataclass(frozen=True, slots=True)
class Child:
    """A running child: `created` is its start time as psutil tells it, which with the pid names it for ever."""

    process: asyncio.subprocess.Process
    created: float

    @property
    def pid(self) -> int:
        """The process id, which is also the id of its process group and session."""
        return self.process.pid


async def spawn(argv: Sequence[str], environment: Mapping[str, str], log: Path) -> Child:
    """Start `argv` with its output appended to `log`.

    Raises `PartFailedError` when the machine cannot start it.
    """
    try:
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *tethered(argv),
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
    except OSError as error:
        message = f"cannot start {argv[0]}: {error}"
        raise PartFailedError(message) from error
    with contextlib.suppress(psutil.NoSuchProcess):
        return Child(process, psutil.Process(process.pid).create_time())
    return Child(process, 0.0)


def kill_group(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Signal every process of the group that `pid` leads or led; nothing happens when none is left."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


async def stop(child: Child, stop_s_max: float) -> bool:
    """End the child: SIGTERM, then SIGKILL to whatever of its group is left after it ended or `stop_s_max` passed.

    Returns True when it ended by itself in time.
    """
    in_time = False
    if child.process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            child.process.terminate()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(child.process.wait(), stop_s_max)
            in_time = True
    kill_group(child.pid)
    await child.process.wait()
    return in_time


async def run_once(shot: OneShot, environment: Mapping[str, str], log: Path) -> str:
    """Run a command to its end and return its output (stdout alone; stderr goes to `log`).

    Raises `PartFailedError` with the last log lines when it fails or is not done after `shot.finish_s_max` seconds.
    """
    with log.open("ab") as errors:
        process = await asyncio.create_subprocess_exec(
            *tethered(shot.argv),
            env={**os.environ, **environment, **shot.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), shot.finish_s_max)
    except TimeoutError as error:
        message = f"{shot.name}: not done within {shot.finish_s_max:.0f} s"
        raise PartFailedError(message, tail(log, SHOWN_LOG_LINES)) from error
    finally:
        kill_group(process.pid)
        await process.wait()
    text = output.decode("utf-8", "replace")
    if process.returncode != 0:
        message = f"{shot.name}: ended with exit code {process.returncode}"
        raise PartFailedError(message, (*text.splitlines(), *tail(log, SHOWN_LOG_LINES))[-SHOWN_LOG_LINES:])
    return text
