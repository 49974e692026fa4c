"""How many turns this process serves at once, and when it takes no more."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from producers.ingest.core import RequestRefused
from schemas.errors import Refusal, unavailable
from schemas.ports import Metrics

_RETRY_AFTER_S: Final = 2


class Admission:
    """Counts open turns. One per process; used on its event loop alone."""

    def __init__(self, streams_open_max: int, metrics: Metrics) -> None:
        self._streams_open_max = streams_open_max
        self._metrics = metrics
        self._open = 0
        self._closed = False

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

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Hold a place for one turn. Raises RequestRefused (503) when there is none."""
        refusal = self._refusal()
        if refusal is not None:
            raise RequestRefused(refusal)
        self._change(1)
        try:
            yield
        finally:
            self._change(-1)

    def _refusal(self) -> Refusal | None:
        if self._closed:
            return unavailable("This server is shutting down. Retry: another one takes over.", "server_shutting_down")
        if self._open >= self._streams_open_max:
            return unavailable("The server is busy. Retry shortly.", retry_after_s=_RETRY_AFTER_S)
        return None

    def _change(self, step: int) -> None:
        self._open += step
        self._metrics.gauge("turnstream_streams_open", self._open)
