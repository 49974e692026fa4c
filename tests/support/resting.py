"""How the producers of tests rest after an append."""

import asyncio

from schemas.ports import Rest


async def rested(rest: Rest | None) -> None:
    """Return after ``rest``."""
    if rest is None:
        return
    woken = asyncio.Event()
    rest(woken.set)
    await woken.wait()
