"""An event loop in which waiting takes no time: thousands of simulated minutes in a second."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")
# Of one wait, in seconds: longer means that nobody is left who could wake anybody.
WAIT_SECONDS_MAX = 100_000.0


class _Clock(selectors.SelectSelector):
    """Nothing ever happens on a socket; to wait for it is to move the time."""

    now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout > WAIT_SECONDS_MAX:
            raise RuntimeError("everybody waits for somebody else")
        self.now_s += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """``time()`` begins at 0 and stands still while anybody can run."""

    def __init__(self) -> None:
        self._clock = _Clock()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now_s


def run_virtually(main: Coroutine[Any, Any, _T]) -> _T:
    """``asyncio.run`` in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
