"""The common beat of the turns of a process: what they append at one beat leaves in one request."""

import asyncio
import math
from collections.abc import Callable
from functools import partial
from typing import Final

from schemas.ports import Rest

_REST_SHARE_MIN: Final = 0.25


class Beats:
    """One timer wakes all turns that rest until the same beat: they need no timer each, and go on at one moment."""

    def __init__(self) -> None:
        self._resting: dict[float, list[Callable[[], None]]] = {}
        self._rests: dict[float, Rest] = {}

    def rest(self, beat_ms: float) -> Rest | None:
        """Until the next beat of ``beat_ms`` that is not about to come anyway; none for a beat of 0."""
        if not beat_ms:
            return None
        if beat_ms not in self._rests:
            self._rests[beat_ms] = partial(self._wake_later, beat_ms / 1000)
        return self._rests[beat_ms]

    def _wake_later(self, beat_s: float, wake: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        due_s = next_beat_s(loop.time(), beat_s)
        resting = self._resting.get(due_s)
        if resting is None:
            resting = self._resting[due_s] = []
            loop.call_at(due_s, self._strike, due_s)
        resting.append(wake)

    def _strike(self, due_s: float) -> None:
        for wake in self._resting.pop(due_s):
            wake()


def next_beat_s(now_s: float, beat_s: float) -> float:
    """The first multiple of ``beat_s`` that is at least a quarter of it away from ``now_s``."""
    return math.ceil(now_s / beat_s + _REST_SHARE_MIN) * beat_s
