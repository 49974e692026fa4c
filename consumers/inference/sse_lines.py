"""The data of server-sent events out of raw bytes. Pure.

https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation; only ``data`` matters here.
"""

from collections.abc import Iterator

from schemas.errors import Retryable


class SseDecoder:
    """Feed bytes as they arrive, cut anywhere; get the data of each complete event.

    Ends of lines may be LF, CRLF or CR. Comments and other fields are left out, as is an event without its
    closing blank line. Raises Retryable when one event is larger than ``event_bytes_max``.
    """

    def __init__(self, event_bytes_max: int) -> None:
        self._event_bytes_max = event_bytes_max
        self._rest = b""
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._after_cr = False

    def feed(self, chunk: bytes) -> Iterator[str]:
        """The data of the events that ``chunk`` completes, in order."""
        for line in self._lines(chunk):
            if line:
                self._take(line)
            elif self._data:
                yield b"\n".join(self._data).decode(errors="replace")
                self._data.clear()
                self._data_bytes = 0
        self._check_size()

    def _lines(self, chunk: bytes) -> list[bytes]:
        if self._after_cr and chunk:
            chunk = chunk.removeprefix(b"\n")
            self._after_cr = False
        if b"\r" in chunk:
            # A CR at the very end may be half of a CRLF: it ends the line now, and its LF is dropped later.
            self._after_cr = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        lines = (self._rest + chunk).split(b"\n")
        self._rest = lines.pop()
        return lines

    def _take(self, line: bytes) -> None:
        field, _, value = line.partition(b":")
        if field == b"data":
            self._data.append(value.removeprefix(b" "))
            self._data_bytes += len(value)
            self._check_size()

    def _check_size(self) -> None:
        if self._data_bytes + len(self._rest) > self._event_bytes_max:
            raise Retryable("the upstream sent an event over the limit")
