"""Giving up what takes too long, with one clock for all that waits."""

import asyncio
from collections.abc import Callable
from typing import Final

_LOOKS_PER_LIMIT: Final = 20


async def watch_overdue(limit_s: float, give_up: Callable[[float], None]) -> None:
    """Call ``give_up`` again and again until cancelled, with the time since when the overdue wait.

    It comes late by a twentieth of ``limit_s`` at most. A timeout for each that waits would cost as much as the wait.
    """
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(limit_s / _LOOKS_PER_LIMIT)
        give_up(loop.time() - limit_s)
