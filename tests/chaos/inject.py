"""Doing to the running stack what the schedule says."""

import asyncio
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from tests.chaos.schedule import SERVERS, Fault, Kind, family
from turnstream.local_stack.parts import PartState
from turnstream.local_stack.stack import Stack

RECOVERY_SECONDS_MAX: Final = 60.0
POLL_SECONDS: Final = 0.02
SIGNALS: Final = {
    Kind.KILL: signal.SIGKILL,
    Kind.TERM: signal.SIGTERM,
    Kind.STOP_SHORT: signal.SIGSTOP,
    Kind.STOP_LONG: signal.SIGSTOP,
}


@dataclass
class Injected:
    """A fault that happened, in monotonic seconds; ``over_s`` when its target served again."""

    fault: Fault
    at_s: float
    over_s: float = 0.0


@dataclass
class Injector:
    """Waits for the time of each fault, and until it can be told apart from the one before.

    Of a kind of our processes one replica is hurt at a time, and one server at a time: what survives must do the work.
    A process that is stopped is always continued.
    """

    stack: Stack
    schedule: Sequence[Fault]
    injected: list[Injected] = field(default_factory=list)
    begun_turns: int = 0
    _hurt: set[str] = field(default_factory=set)
    _done: int = 0

    @property
    def behind(self) -> int:
        """How many faults are due and have not happened."""
        due = sum(fault.after_turns <= self.begun_turns for fault in self.schedule)
        return due - self._done

    async def run(self) -> None:
        """Inject all faults and wait until everything serves again."""
        async with asyncio.TaskGroup() as tasks:
            for fault in self.schedule:
                while self.begun_turns < fault.after_turns or _group(fault) in self._hurt:  # noqa: ASYNC110 - others change it
                    await asyncio.sleep(POLL_SECONDS)
                self._hurt.add(_group(fault))
                tasks.create_task(self._inject(fault))
                self._done += 1

    async def _inject(self, fault: Fault) -> None:
        try:
            pid = await self._ready(fault.target)
            happened = Injected(fault, time.monotonic())
            self.injected.append(happened)
            if fault.kind is Kind.FLUSH:
                await self._flush()
            elif fault.kind in {Kind.STOP_SHORT, Kind.STOP_LONG}:
                await _stand_still(pid, fault.seconds)
                await self._ready(fault.target)
            else:
                os.kill(pid, SIGNALS[fault.kind])
                await self._ready(fault.target, not_pid=pid)
            happened.over_s = time.monotonic()
        finally:
            self._hurt.discard(_group(fault))

    async def _ready(self, part: str, not_pid: int | None = None) -> int:
        """Wait until the part runs and serves; its process id."""
        until_s = time.monotonic() + RECOVERY_SECONDS_MAX
        while True:
            status = self.stack.part(part)
            if status.state is PartState.READY and status.pid not in {None, not_pid}:
                return status.pid or 0
            if time.monotonic() > until_s:
                raise TimeoutError(f"{part} did not serve within {RECOVERY_SECONDS_MAX} s: {status.state}")
            await asyncio.sleep(POLL_SECONDS)

    async def _flush(self) -> None:
        redis = Redis.from_url(self.stack.endpoints.redis_url or "", socket_timeout=5)
        try:
            await redis.flushall()
        except (RedisError, OSError):
            return  # Another fault has it; there is nothing left to flush.
        finally:
            await redis.aclose()


async def _stand_still(pid: int, seconds: float) -> None:
    os.kill(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        os.kill(pid, signal.SIGCONT)


def _group(fault: Fault) -> str:
    target = family(fault.target)
    return "server" if target in SERVERS else target
