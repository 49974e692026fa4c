"""Runs a plan: stage after stage up, all of it watched, stage after stage down, whatever happens in between."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from typing import Final

from turnstream.local_stack import state
from turnstream.local_stack.child import RUN_ID_VARIABLE, run_once
from turnstream.local_stack.keeper import PartKeeper
from turnstream.local_stack.layout import Layout
from turnstream.local_stack.logfiles import rotate
from turnstream.local_stack.parts import OneShot, PartStatus
from turnstream.local_stack.plan import RunPlan
from turnstream.local_stack.restart import RestartPolicy
from turnstream.local_stack.state import RunRecord, RunState

KEY_PREFIX: Final = "key="

OnRecord = Callable[[RunRecord], None]


class Supervisor:
    """Runs one plan from start to stop. Belongs to one event loop, whose thread must outlive the children."""

    def __init__(
        self, plan: RunPlan, layout: Layout, run_id: str, on_record: OnRecord, policy: RestartPolicy | None = None
    ) -> None:
        """`on_record` gets every new record of the run, in order, and must not block."""
        self._plan = plan
        self._layout = layout
        self._environment = {RUN_ID_VARIABLE: run_id}
        self._on_record = on_record
        self._changed = asyncio.Event()
        self._stopping = asyncio.Event()
        self._closed = False
        policy = policy or RestartPolicy()
        self._keepers = [
            [PartKeeper(part, self._environment, layout.log(part.name), policy, self._on_part) for part in stage.parts]
            for stage in plan.stages
        ]
        self.record = _first_record(plan, run_id, [keeper.status for stage in self._keepers for keeper in stage])

    def stop(self) -> None:
        """Ask for the end; call it from the event loop's thread. `run` returns when everything is down."""
        self._stopping.set()

    async def run(self, on_ready: Callable[[RunRecord], None]) -> None:
        """Start everything, call `on_ready`, keep it alive until `stop`, end everything.

        Raises `PartFailedError` when a part does not come up; nothing is left running then either.
        """
        async with self._recording():
            try:
                await self._up_until_stopped(on_ready)
            finally:
                self._update(state=RunState.STOPPING)
                await self._down()

    async def _up_until_stopped(self, on_ready: Callable[[RunRecord], None]) -> None:
        async with asyncio.TaskGroup() as group:
            tasks: list[asyncio.Task[None]] = []
            try:
                started = group.create_task(self._start(group, tasks))
                stopped = group.create_task(_wait(self._stopping))
                await asyncio.wait((started, stopped), return_when=asyncio.FIRST_COMPLETED)
                tasks += [started, stopped]
                if started.done() and not started.cancelled() and started.exception() is None:
                    self._update(state=RunState.READY)
                    on_ready(self.record)
                    await self._stopping.wait()
            finally:
                for task in tasks:
                    task.cancel()

    async def _start(self, group: asyncio.TaskGroup, tasks: list[asyncio.Task[None]]) -> None:
        for stage, keepers in zip(self._plan.stages, self._keepers, strict=True):
            for shot in stage.before:
                await self._run_shot(shot)
            tasks += [group.create_task(keeper.run()) for keeper in keepers]
            for keeper in keepers:
                await keeper.ready.wait()

    async def _run_shot(self, shot: OneShot) -> None:
        log = self._layout.log(shot.name)
        rotate(log)
        output = await run_once(shot, {**self._environment, **self._plan.environment}, log)
        lines = output.splitlines()
        if lines and lines[-1].startswith(KEY_PREFIX):
            self._update(key=lines[-1].removeprefix(KEY_PREFIX))

    async def _down(self) -> None:
        for keepers in reversed(self._keepers):
            await asyncio.gather(*(keeper.stop() for keeper in keepers))

    def _on_part(self, status: PartStatus) -> None:
        parts = tuple(status if known.name == status.name else known for known in self.record.parts)
        self._update(parts=parts)

    def _update(self, **changes: object) -> None:
        self.record = self.record.model_copy(update=changes)
        self._changed.set()
        self._on_record(self.record)

    @contextlib.asynccontextmanager
    async def _recording(self) -> AsyncIterator[None]:
        """Keep the state file up to date, one writer at a time, and remove it at the end."""
        writer = asyncio.create_task(self._write_changes())
        try:
            yield
        finally:
            # Cancelled, it could leave a thread behind that writes the file again after it was removed.
            self._closed = True
            self._changed.set()
            await writer
            self._layout.state_file.unlink(missing_ok=True)

    async def _write_changes(self) -> None:
        while not self._closed:
            self._changed.clear()
            await asyncio.to_thread(state.write, self._layout.state_file, self.record)
            await self._changed.wait()


async def _wait(event: asyncio.Event) -> None:
    await event.wait()


def _first_record(plan: RunPlan, run_id: str, parts: list[PartStatus]) -> RunRecord:
    edge_port = plan.ports.get("edge")
    return RunRecord(
        run_id=run_id,
        pid=os.getpid(),
        pid_created=state.process_created(os.getpid()) or 0.0,
        state=RunState.STARTING,
        base_url=f"http://127.0.0.1:{edge_port}/v1" if edge_port else None,
        key=None,
        ports=dict(plan.ports),
        environment=dict(plan.environment),
        notes=plan.notes,
        parts=tuple(parts),
    )
