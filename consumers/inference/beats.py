"""The common beat of the turns of a process: what they append at one beat leaves in one request."""

import asyncio
import math
from typing import Final

_REST_SHARE_MIN: Final = 0.25


class Beats:
    """One timer wakes all turns that rest until the same beat: they need no timer each, and go on at one moment."""

    def __init__(self) -> None:
        self._resting: dict[float, list[asyncio.Future[None]]] = {}

    def next(self, beat_ms: float) -> "asyncio.Future[None]":
        """Done at the next beat of ``beat_ms`` that is not about to come anyway."""
        loop = asyncio.get_running_loop()
        due_s = next_beat_s(loop.time(), beat_ms / 1000)
        resting = self._resting.get(due_s)
        if resting is None:
            resting = self._resting[due_s] = []
            loop.call_at(due_s, self._strike, due_s)
        # One each: cancelling a turn must not cancel what others wait for.
        rest = loop.create_future()
        resting.append(rest)
        return rest

    def _strike(self, due_s: float) -> None:
        for rest in self._resting.pop(due_s):
            if not rest.done():
                rest.set_result(None)


def next_beat_s(now_s: float, beat_s: float) -> float:
    """The first multiple of ``beat_s`` that is at least a quarter of it away from ``now_s``."""
    return math.ceil(now_s / beat_s + _REST_SHARE_MIN) * beat_s
