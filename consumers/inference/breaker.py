"""Whether a pool is worth a try, for turns that may go elsewhere. Pure: ``now_s`` is any monotonic clock."""

from math import inf


class PoolBreaker:
    """Opens after so many failures in a row; open, it lets one turn try every ``open_s``. A success closes it.

    It is asked for turns that have a fallback, and told of all.
    """

    def __init__(self, failures_max: int, open_s: float) -> None:
        self._failures_max = failures_max
        self._open_s = open_s
        self._failures = 0
        self._next_try_s = -inf

    @property
    def open(self) -> bool:
        """Whether the pool counts as down."""
        return self._failures >= self._failures_max

    def allows(self, now_s: float) -> bool:
        """Whether to try the pool; the one that is let through while it is open is the only one for a while."""
        if not self.open:
            return True
        if now_s < self._next_try_s:
            return False
        self._next_try_s = now_s + self._open_s
        return True

    def fail(self, now_s: float, *, slowly: bool = False) -> None:
        """A generation failed before its first piece; ``slowly``: after a wait that nobody else is to have."""
        was_open = self.open
        self._failures = max(self._failures + 1, self._failures_max if slowly else 0)
        if self.open and not was_open:
            self._next_try_s = now_s + self._open_s

    def succeed(self) -> bool:
        """The pool generates. Returns whether it counted as down until now."""
        was_open = self._failures >= self._failures_max
        self._failures = 0
        return was_open
