"""What an operator is told of the streams: how long a client waits for text, and which streams break."""

from collections.abc import Callable
from typing import Final

from consumers.sse.core import SseSettings
from schemas.errors import Refusal
from schemas.events import Turn
from schemas.ports import Metrics

# A turn that reaches its answer later than this was submitted by an earlier request, which this one joined: how long
# that was ago is no wait of this client.
_JOINED_SECONDS: Final = 30.0


class StreamWatch:
    """Measures one stream. Waits count while nothing comes; the time that a slow client takes to read does not."""

    __slots__ = ("_gap_seconds_max", "_largest_s", "_metrics", "_noticed", "_silent_s", "_submitted_s", "_texts")

    def __init__(self, metrics: Metrics, settings: SseSettings, submitted_s: float | None) -> None:
        """``submitted_s`` is the event loop's time of the submission, None when this client did not submit."""
        self._metrics = metrics
        self._gap_seconds_max = settings.gap_seconds_max
        self._submitted_s = submitted_s
        self._texts = False
        self._silent_s = 0.0
        self._largest_s = 0.0
        self._noticed = False

    def text(self, now_s: float) -> None:
        """Text came and is about to be written."""
        if not self._texts:
            self._texts = True
            if self._submitted_s is not None:
                self._metrics.observe("turnstream_edge_first_text_seconds", max(0.0, now_s - self._submitted_s))
        self._silent_s = 0.0
        self._noticed = False

    def waited(self, seconds: float) -> None:
        """So long nothing was written for want of events."""
        if not self._texts:
            return
        self._silent_s += seconds
        self._largest_s = max(self._largest_s, self._silent_s)
        if self._silent_s > self._gap_seconds_max and not self._noticed:
            self._noticed = True
            self._metrics.count("turnstream_stream_gaps_total")

    def ended(self) -> None:
        """No more text comes, or nobody reads it any more."""
        if self._texts:
            self._metrics.observe("turnstream_stream_largest_gap_seconds", self._largest_s)

    def failed(self, refusal: Refusal) -> None:
        """The stream ends with an error frame."""
        self._metrics.count(
            "turnstream_stream_errors_total", status=str(refusal.status), code=refusal.error.code or refusal.error.type
        )


def submitted_s(turn: Turn, now_ms: Callable[[], int], loop_s: float) -> float | None:
    """When ``turn`` was submitted, by the event loop's time ``loop_s`` now; None for a turn that was joined."""
    ago_s = max(0.0, (now_ms() - turn.submitted_at_ms) / 1000)
    return loop_s - ago_s if ago_s < _JOINED_SECONDS else None
