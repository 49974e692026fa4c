"""How many turns this process serves at once, and when it takes no more."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final

from producers.http.refused import RequestRefused
from producers.ingest.core import IngestSettings
from producers.ingest.queue_forecast import QueueForecast
from schemas.errors import Refusal, unavailable
from schemas.ports import Metrics

_RETRY_AFTER_S: Final = 2
_RETRY_AFTER_S_MAX: Final = 60


class Admission:
    """Counts open turns and foresees their wait. One per process; used on its event loop alone."""

    def __init__(self, settings: IngestSettings, metrics: Metrics, monotonic_s: Callable[[], float]) -> None:
        self.forecast: Final = QueueForecast(settings.queue_memory_seconds)
        self._settings = settings
        self._metrics = metrics
        self._monotonic_s = monotonic_s
        self._open = 0
        self._closed = False
        self._slot = _Slot(self._change)

    @property
    def open_turns(self) -> int:
        """Turns between their admission and the end of their response."""
        return self._open

    @property
    def closed(self) -> bool:
        """Whether no new turn is taken any more."""
        return self._closed

    def close(self) -> None:
        """Refuse every new turn from now on; those admitted go on."""
        self._closed = True

    def started(self, turn_id: str) -> None:
        """A turn that was submitted here waits no longer."""
        self.forecast.start(turn_id, self._monotonic_s())

    def slot(self, *, queued: bool) -> AbstractContextManager[None]:
        """A place for one response, to be held while it is written. Raises RequestRefused (503) when there is none.

        ``queued``: it may need a GPU, so that there must be hope of one in time.
        """
        refusal = self._refusal(queued=queued)
        if refusal is not None:
            raise RequestRefused(refusal)
        return self._slot

    def _refusal(self, *, queued: bool) -> Refusal | None:
        if self._closed:
            return unavailable("This server is shutting down. Retry: another one takes over.", "server_shutting_down")
        if self._open >= self._settings.streams_open_max:
            return unavailable("The server is busy. Retry shortly.", retry_after_s=_RETRY_AFTER_S)
        if not queued:
            return None
        wait_s = self.forecast.seconds(self._monotonic_s())
        self._metrics.gauge("turnstream_queue_seconds_predicted", wait_s)
        excess_s = wait_s - self._settings.queue_seconds_max
        if excess_s <= 0 or self.forecast.waiting < self._settings.queue_turns_min:
            return None
        retry_after_s = min(max(1, math.ceil(excess_s)), _RETRY_AFTER_S_MAX)
        return unavailable(
            "Too many turns wait for an answer. Retry after the given time.", retry_after_s=retry_after_s
        )

    def _change(self, step: int) -> None:
        self._open += step
        self._metrics.gauge("turnstream_streams_open", self._open)


class _Slot(AbstractContextManager[None]):
    """The same for every response: it only counts."""

    def __init__(self, change: Callable[[int], None]) -> None:
        self._change = change

    def __enter__(self) -> None:
        self._change(1)

    def __exit__(self, *_: object) -> None:
        self._change(-1)
