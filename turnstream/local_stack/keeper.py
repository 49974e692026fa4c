"""Keeps one part alive: starts it, proves it ready, watches it, starts it again after a crash."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from turnstream.local_stack.child import SHOWN_LOG_LINES, Child, run_once, spawn, stop
from turnstream.local_stack.errors import PartFailedError
from turnstream.local_stack.logfiles import cut_if_large, rotate, tail
from turnstream.local_stack.parts import Part, PartState, PartStatus
from turnstream.local_stack.readiness import NotReadyError
from turnstream.local_stack.restart import RestartPolicy, after_crash

POLL_S: Final = 0.1
WATCH_S: Final = 5.0

OnChange = Callable[[PartStatus], None]


class PartKeeper:
    """Owns the child of one part. `status` is replaced on every change, and every change is reported."""

    def __init__(
        self, part: Part, environment: Mapping[str, str], log: Path, policy: RestartPolicy, on_change: OnChange
    ) -> None:
        """`environment` is what every part of the run gets; `on_change` must not block."""
        self.part = part
        self.status = PartStatus(part.name, part.port)
        self.ready = asyncio.Event()
        self._environment = {**environment, **part.environment}
        self._log = log
        self._policy = policy
        self._on_change = on_change
        self._child: Child | None = None

    async def run(self) -> None:
        """Keep the part alive until cancelled.

        Raises `PartFailedError` with the last log lines when the very first start fails; afterwards a failure is a
        restart. Cancelling does not end the child: `stop` does, in the order that the supervisor wants.
        """
        crashes: tuple[float, ...] = ()
        rotate(self._log)
        if self.part.prepare is not None:
            await run_once(self.part.prepare, self._environment, self._log)
        while True:
            reason = await self._one_life()
            if not self.ready.is_set():
                message = f"{self.part.name}: {reason}"
                raise PartFailedError(message, tail(self._log, SHOWN_LOG_LINES))
            restart = after_crash(self._policy, crashes, time.monotonic())
            crashes = restart.crashes
            state = PartState.FAILED if restart.failed else PartState.BACKOFF
            restarts = self.status.restarts + 1
            self._change(state=state, detail=reason, restarts=restarts, pid=None, pid_created=None)
            await asyncio.sleep(restart.delay_s)

    async def stop(self) -> None:
        """End the child, if there is one, within the part's bound."""
        if self._child is not None:
            if await stop(self._child, self.part.stop_s_max):
                self.part.after_clean_exit()
            self._child = None
            self._change(state=PartState.STOPPED, pid=None, pid_created=None)

    async def _one_life(self) -> str:
        """Run one child from its start to its end and return why it ended."""
        try:
            child = self._child = await spawn(self.part.argv, self._environment, self._log)
        except PartFailedError as error:
            return error.message
        self._change(state=PartState.STARTING, pid=child.pid, pid_created=child.created, since=time.time())
        ended = asyncio.ensure_future(child.process.wait())
        try:
            if not await self._became_ready(ended):
                return await self._end_of(child, f"not ready within {self.part.ready_s_max:.0f} s")
            await self._watch(ended)
            return await self._end_of(child, "")
        finally:
            ended.cancel()

    async def _end_of(self, child: Child, reason: str) -> str:
        code = child.process.returncode
        await stop(child, self.part.stop_s_max)
        return reason if code is None else f"ended with {_exit_text(code)}"

    async def _became_ready(self, ended: asyncio.Future[int]) -> bool:
        deadline = time.monotonic() + self.part.ready_s_max
        while not ended.done() and time.monotonic() < deadline:
            problem = await self._problem()
            if problem is None and not ended.done():
                self._change(state=PartState.READY, detail="")
                self.ready.set()
                return True
            await asyncio.wait((ended,), timeout=POLL_S)
        return False

    async def _watch(self, ended: asyncio.Future[int]) -> None:
        while True:
            await asyncio.wait((ended,), timeout=WATCH_S)
            if ended.done():
                return
            await asyncio.to_thread(cut_if_large, self._log)
            problem = await self._problem()
            state = PartState.READY if problem is None else PartState.UNREADY
            if state is not self.status.state:
                self._change(state=state, detail=problem or "")

    async def _problem(self) -> str | None:
        try:
            await self.part.probe()
        except (NotReadyError, TimeoutError) as error:
            return str(error) or "no answer in time"
        return None

    def _change(self, **changes: object) -> None:
        self.status = replace(self.status, **changes)  # type: ignore[arg-type]
        self._on_change(self.status)


def _exit_text(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"signal {-code}"
