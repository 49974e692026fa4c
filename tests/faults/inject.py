"""Does the faults of a schedule to a running stack, and waits until what was hit serves again."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from tests.faults.operations import Event, OperationLog
from tests.faults.pace import Pace
from tests.faults.schedule import EDGES, SERVERS, Fault, Kind
from turnstream.local_stack.parts import PartState
from turnstream.local_stack.stack import Stack

POLL_SECONDS: Final = 0.05
READY_SECONDS_MAX: Final = 90.0
FLUSH_SECONDS_MAX: Final = 5.0
# More at once would test the machine that all of them start on.
HEALING_MAX: Final = 3
_SIGNALS: Final = {Kind.KILL: signal.SIGKILL, Kind.TERM: signal.SIGTERM}


@dataclass(frozen=True, slots=True)
class _Hit:
    fault: Fault
    pid: int


class Injector:
    """Runs once. Every fault and every recovery is written to the operation log."""

    def __init__(self, stack: Stack, log: OperationLog, on_fault: Callable[[Fault], None]) -> None:
        self._stack = stack
        self._log = log
        self._on_fault = on_fault
        self._healing = asyncio.Semaphore(HEALING_MAX)
        self._sick: set[str] = set()

    async def run(self, faults: Sequence[Fault], pace: Pace) -> None:
        """Do every fault when its turn has come, and return when everything serves again."""
        async with asyncio.TaskGroup() as healing:
            for fault in faults:
                await pace.hold_at(fault.at_turn)
                await pace.reached(fault.at_turn)
                await self._healing.acquire()
                # Not ready in time: then the fault before it is reported as not healed, and this one changes nothing.
                await self._until(partial(self._may_hit, fault))
                hit = await self._hit(fault)
                self._on_fault(fault)
                healing.create_task(self._heal(hit))
            await pace.hold_at(None)

    def _may_hit(self, fault: Fault) -> bool:
        """The target serves; so does the other edge, or every other server, when the fault is of one of those."""
        # A stopped process still counts as ready, and a dead one until somebody notices.
        needed = {fault.target}
        if fault.target in EDGES:
            needed |= set(EDGES)
        if fault.hits_server:
            needed |= set(SERVERS)
        return not needed & self._sick and all(self._stack.part(name).state is PartState.READY for name in needed)

    async def _hit(self, fault: Fault) -> _Hit:
        self._sick.add(fault.target)
        pid = self._stack.part(fault.target).pid or 0
        self._log.note(Event.FAULT, fault=fault.kind.value, target=fault.target, seconds=fault.seconds)
        with suppress(ProcessLookupError):
            if fault.kind in _SIGNALS and pid:
                os.kill(pid, _SIGNALS[fault.kind])
            elif fault.kind in {Kind.PAUSE, Kind.ZOMBIE} and pid:
                os.kill(pid, signal.SIGSTOP)
        if fault.kind is Kind.FLUSH:
            await self._flush()
        return _Hit(fault, pid)

    async def _flush(self) -> None:
        with suppress(RedisError, TimeoutError, OSError):
            async with (
                asyncio.timeout(FLUSH_SECONDS_MAX),
                Redis.from_url(self._stack.endpoints.redis_url or "") as redis,
            ):
                await redis.flushall()

    async def _heal(self, hit: _Hit) -> None:
        try:
            await self._continue(hit)
            died = hit.fault.kind in _SIGNALS
            healed = await self._until(lambda: self._serves(hit, died=died))
            what = {"fault": hit.fault.kind.value, "target": hit.fault.target}
            self._log.note(Event.HEALED, status=int(healed), **what)
        finally:
            self._sick.discard(hit.fault.target)
            self._healing.release()

    async def _continue(self, hit: _Hit) -> None:
        if hit.fault.kind not in {Kind.PAUSE, Kind.ZOMBIE}:
            return
        try:
            await asyncio.sleep(hit.fault.seconds)
        finally:
            # Whatever happens here, no stopped process stays behind.
            with suppress(ProcessLookupError):
                os.kill(hit.pid, signal.SIGCONT)

    def _serves(self, hit: _Hit, *, died: bool) -> bool:
        status = self._stack.part(hit.fault.target)
        return status.state is PartState.READY and (not died or status.pid != hit.pid)

    async def _until(self, holds: Callable[[], bool]) -> bool:
        until_s = time.monotonic() + READY_SECONDS_MAX
        while not holds():
            if time.monotonic() > until_s:
                return False
            await asyncio.sleep(POLL_SECONDS)
        return True
