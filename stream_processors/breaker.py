"""Not asking, for a moment, a dependency that has just failed to answer. Pure."""


class Breaker:
    """Closed until a failure, then open for ``retry_s``: a dead dependency costs one wait per ``retry_s``, not all.

    Times are seconds of any clock that does not run backwards.
    """

    def __init__(self, retry_s: float) -> None:
        self._retry_s = retry_s
        self._open_until_s = float("-inf")
        self._failing = False

    def allows(self, now_s: float) -> bool:
        """Whether to ask."""
        return now_s >= self._open_until_s

    def fail(self, now_s: float) -> bool:
        """It did not answer; whether that is news."""
        news, self._failing = not self._failing, True
        self._open_until_s = now_s + self._retry_s
        return news

    def succeed(self) -> bool:
        """It answered; whether that is news."""
        news, self._failing = self._failing, False
        return news
