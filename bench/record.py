"""What the streams of one load did inside its measured window. Pure: times are arguments, in seconds."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from words import faults

# Gaps are counted in steps of 0.1 ms.
STEPS_PER_MS: Final = 10


@dataclass
class Stream:
    """One answer as a client reads it. ``tag`` is "" when its text depends on the question alone."""

    asked_s: float
    tag: str = ""
    last_s: float | None = None
    text: list[bytes] = field(default_factory=list)


@dataclass
class Recorder:
    """Counts what comes inside [``from_s``, ``until_s``), and checks every answer whole."""

    tokens: int
    from_s: float = float("inf")
    until_s: float = float("inf")
    first_ms: list[float] = field(default_factory=list)
    gaps: Counter[int] = field(default_factory=Counter)
    chars: int = 0
    answers: int = 0
    answer_chars: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    _same: str | None = None

    def text(self, stream: Stream, text: bytes, now_s: float) -> None:
        """More of an answer came."""
        if self.from_s <= now_s < self.until_s:
            self.chars += len(text)
            if stream.last_s is None:
                self.first_ms.append(1000 * (now_s - stream.asked_s))
            elif stream.last_s >= self.from_s:
                self.gaps[round(1000 * STEPS_PER_MS * (now_s - stream.last_s))] += 1
        stream.last_s = now_s
        stream.text.append(text)

    def ended(self, stream: Stream) -> None:
        """The answer is whole, as far as the server says."""
        whole = b"".join(stream.text).decode()
        self.answers += 1
        self.answer_chars += len(whole)
        if stream.tag:
            self.faults += faults(stream.tag, self.tokens, whole)
        elif self._same is None:
            self._same = whole
        elif whole != self._same:
            self.faults["different"] += 1

    def fail(self, kind: str) -> None:
        """An answer broke off, or there was none."""
        self.failed[kind] += 1

    def figures(self) -> dict[str, Any]:
        """All of it as JSON; ``tokens`` are those that came inside the window."""
        share = self.tokens * self.answers / self.answer_chars if self.answer_chars else 0.0
        return {
            "answers": self.answers,
            "tokens": round(self.chars * share),
            "first_ms": [round(value, 2) for value in self.first_ms],
            "gaps": {str(steps): count for steps, count in sorted(self.gaps.items())},
            "faults": dict(self.faults),
            "failed": dict(self.failed),
        }


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which ``share`` (0..1) of ``values`` lie, nearest rank; 0 of none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


def gap_ms(gaps: Counter[int], share: float) -> float:
    """The same of counted gaps, in milliseconds."""
    left = share * (sum(gaps.values()) - 1)
    for steps, count in sorted(gaps.items()):
        left -= count
        if left < 0:
            return steps / STEPS_PER_MS
    return 0.0
