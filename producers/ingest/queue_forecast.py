"""How long a new turn will wait for a GPU, as far as one edge can tell from its own turns. Pure.

Little's law: what waits, divided by the rate at which it starts. The rate is taken over the time in which something
waited, since only then it shows a capacity; its memory fades, so that it follows a capacity that changes.
"""

import math


class QueueForecast:
    """The turns of this edge that were submitted and have not started. Times are monotonic seconds.

    Holds one entry per turn that is being served here.
    """

    def __init__(self, memory_seconds: float) -> None:
        self._memory_s = memory_seconds
        # Insertion order is age.
        self._waiting: dict[str, float] = {}
        self._starts = 0.0
        self._busy_s = 0.0
        self._seen_s = 0.0
        self._last_start_s = -math.inf

    @property
    def waiting(self) -> int:
        """Turns that were submitted and have not started."""
        return len(self._waiting)

    def enter(self, turn_id: str, now_s: float) -> None:
        """The turn is submitted."""
        self._pass_time(now_s)
        self._waiting.setdefault(turn_id, now_s)

    def start(self, turn_id: str, now_s: float) -> None:
        """The turn waits no longer, whatever the reason; means nothing for a turn that did not enter here."""
        self._pass_time(now_s)
        if self._waiting.pop(turn_id, None) is not None:
            self._starts += 1
            self._last_start_s = now_s

    def leave(self, turn_id: str) -> None:
        """The turn was not submitted after all."""
        self._waiting.pop(turn_id, None)

    def seconds(self, now_s: float) -> float:
        """How long a turn that came now would wait: at least as long as nothing has started while some waited."""
        if not self._waiting:
            return 0.0
        self._pass_time(now_s)
        stalled_s = now_s - max(self._last_start_s, next(iter(self._waiting.values())))
        if not self._starts:
            return stalled_s
        return max(stalled_s, len(self._waiting) * self._busy_s / self._starts)

    def _pass_time(self, now_s: float) -> None:
        passed_s, self._seen_s = now_s - self._seen_s, now_s
        if self._waiting and passed_s > 0:
            fading = math.exp(-passed_s / self._memory_s)
            self._starts *= fading
            self._busy_s = self._busy_s * fading + passed_s
