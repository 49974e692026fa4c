"""Whether a process does its work now, as named checks."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

NOT_STARTED: Final = "work:started"


@dataclass
class Readiness:
    """Named checks of one process. Ready means that there are some and every one of them holds.

    A process answers probes before its work has begun: until that has named a check, nothing is known to be ready.
    """

    checks: dict[str, Callable[[], bool]] = field(default_factory=dict)

    def require(self, name: str, check: Callable[[], bool]) -> None:
        """Add a check; it must be quick and free of I/O."""
        self.checks[name] = check

    def failing(self) -> tuple[str, ...]:
        """Names of the checks that do not hold, in the order in which they were added."""
        if not self.checks:
            return (NOT_STARTED,)
        return tuple(name for name, check in self.checks.items() if not check())
