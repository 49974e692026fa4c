"""The data of server-sent events out of raw bytes. Pure.

https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation; only ``data`` matters here.
"""

from typing import Final

from schemas.errors import Retryable

DATA: Final = "data: "
EVENT_END: Final = "\n\n"


class SseDecoder:
    """Feed bytes as they arrive, cut anywhere; get the complete events, as text: see ``data_of``.

    Ends of lines may be LF, CRLF or CR. An event without its closing blank line is left out. Raises Retryable when one
    event is larger than ``event_bytes_max``.
    """

    def __init__(self, event_bytes_max: int) -> None:
        self._event_bytes_max = event_bytes_max
        self._rest = b""
        self._after_cr = False

    def feed(self, chunk: bytes) -> str:
        """The events that ``chunk`` completes, in order: LF ends their lines, EVENT_END stands between two of them."""
        if b"\r" in chunk or (self._after_cr and chunk):
            chunk = self._with_lf(chunk)
        whole, _, self._rest = (self._rest + chunk).rpartition(b"\n\n")
        if len(whole) > self._event_bytes_max or len(self._rest) > self._event_bytes_max:
            self._check_sizes(whole)
        return whole.decode(errors="replace")

    def _with_lf(self, chunk: bytes) -> bytes:
        if self._after_cr:
            chunk = chunk.removeprefix(b"\n")
        # A CR at the very end may be half of a CRLF: it ends the line now, and its LF is dropped later.
        self._after_cr = chunk.endswith(b"\r")
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _check_sizes(self, whole: bytes) -> None:
        if max(map(len, (*whole.split(b"\n\n"), self._rest))) > self._event_bytes_max:
            raise Retryable("the upstream sent an event over the limit")


def data_of(events: str) -> list[str]:
    """The data of each of ``events``, but for those without any."""
    return [data for event in events.split(EVENT_END) if (data := _data(event)) is not None]


def end_of_event(events: str, at: int) -> int:
    """Where the one behind the event at ``at`` begins."""
    end = events.find(EVENT_END, at)
    return len(events) if end < 0 else end + len(EVENT_END)


def _data(event: str) -> str | None:
    fields = (line.partition(":") for line in event.split("\n"))
    lines = [value.removeprefix(" ") for field, _, value in fields if field == "data"]
    return "\n".join(lines) if lines else None
