"""Whether a process does its work now, as named checks."""

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Readiness:
    """Named checks of one process. Ready means that every one of them holds."""

    checks: dict[str, Callable[[], bool]] = field(default_factory=dict)

    def require(self, name: str, check: Callable[[], bool]) -> None:
        """Add a check; it must be quick and free of I/O."""
        self.checks[name] = check

    def failing(self) -> tuple[str, ...]:
        """Names of the checks that do not hold, in the order in which they were added."""
        return tuple(name for name, check in self.checks.items() if not check())
