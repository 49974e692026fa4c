"""How fast records are given: a token bucket over an injected clock."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

# What may be given at once: a burst larger than this is no cap.
BURST_S: Final = 0.25


class Pace:
    """At most ``per_second`` records a second; None: as fast as they are taken. ``monotonic_s`` gives seconds."""

    def __init__(
        self,
        per_second: float | None,
        monotonic_s: Callable[[], float],
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        if per_second is not None and per_second <= 0:
            raise ValueError("a rate is above zero")
        self._per_second = per_second
        self._monotonic_s = monotonic_s
        self._sleep = sleep
        self._ready_s = monotonic_s()

    def batch_max(self, records_max: int) -> int:
        """How many records may be given at once: ``records_max``, or fewer under a cap."""
        if self._per_second is None:
            return records_max
        return max(1, min(records_max, int(self._per_second * BURST_S)))

    async def take(self, records: int) -> None:
        """Return when ``records`` more may be given."""
        if self._per_second is None:
            return
        wait_s = self._ready_s - self._monotonic_s()
        if wait_s > 0:
            await self._sleep(wait_s)
        self._ready_s = max(self._ready_s, self._monotonic_s()) + records / self._per_second
