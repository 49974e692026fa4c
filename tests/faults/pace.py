"""Keeps turns and faults in step: a fault waits for its turn, and turns do not run away from late faults."""

import asyncio
from typing import Final

# As many turns may begin before a fault that is due is done.
AHEAD_TURNS_MAX: Final = 12


class Pace:
    """Counts the turns that have begun. ``turns`` is how many there will be."""

    def __init__(self, turns: int) -> None:
        self.turns = turns
        self.begun = 0
        self._barrier: int | None = 0
        self._moved = asyncio.Condition()

    async def begin(self) -> int | None:
        """The number of the next turn, as soon as it may begin; None when there are no more."""
        async with self._moved:
            await self._moved.wait_for(lambda: self.begun >= self.turns or self._open)
            if self.begun >= self.turns:
                return None
            self.begun += 1
            self._moved.notify_all()
            return self.begun - 1

    async def reached(self, turns: int) -> None:
        """Return when ``turns`` turns have begun."""
        async with self._moved:
            await self._moved.wait_for(lambda: self.begun >= turns)

    async def hold_at(self, turns: int | None) -> None:
        """Let turns begin until ``AHEAD_TURNS_MAX`` after ``turns``, where a fault is due; None lets all begin."""
        async with self._moved:
            self._barrier = turns
            self._moved.notify_all()

    @property
    def _open(self) -> bool:
        return self._barrier is None or self.begun < self._barrier + AHEAD_TURNS_MAX
