"""The common beat of the turns of a process: what they append at one beat leaves in one request."""

import asyncio
import math
from collections.abc import Callable
from typing import Final

_REST_SHARE_MIN: Final = 0.25


class Beats:
    """One timer for all turns that rest until the same beat: they go on one after another, at one moment."""

    def __init__(self) -> None:
        self._resting: dict[float, list[Callable[[], None]]] = {}

    def rest(self, beat_ms: float, go_on: Callable[[], None]) -> None:
        """Call ``go_on`` at the next beat of ``beat_ms`` that is not about to come anyway; at once for a beat of 0."""
        if not beat_ms:
            go_on()
            return
        loop = asyncio.get_running_loop()
        due_s = next_beat_s(loop.time(), beat_ms / 1000)
        resting = self._resting.get(due_s)
        if resting is None:
            resting = self._resting[due_s] = []
            loop.call_at(due_s, self._strike, due_s)
        resting.append(go_on)

    def _strike(self, due_s: float) -> None:
        for go_on in self._resting.pop(due_s):
            go_on()


def next_beat_s(now_s: float, beat_s: float) -> float:
    """The first multiple of ``beat_s`` that is at least a quarter of it away from ``now_s``."""
    return math.ceil(now_s / beat_s + _REST_SHARE_MIN) * beat_s
