"""What the streams of all APIs have in common: an encoder's moves, and frames (HTML, section 9.2)."""

from typing import Final, Protocol

from pydantic_core import to_json

from consumers.sse.core import Ending, Piece
from schemas.errors import Refusal

PING: Final = b": ping\n\n"
FRAME_END: Final = b"\n\n"

# JSON allows these raw, but some SSE readers take them for line ends, as str.splitlines does.
_LINE_ENDS: Final = (("\u0085", b"\\u0085"), ("\u2028", b"\\u2028"), ("\u2029", b"\\u2029"))
_RAW_LINE_ENDS: Final = tuple((character.encode(), escaped) for character, escaped in _LINE_ENDS)


class StreamEncoder(Protocol):
    """Encodes one stream, move by move and in this order; each result is complete SSE frames, or nothing.

    What it makes of a turn depends on the log alone, so that a stream that is picked up again has the same frames.
    """

    def opening(self) -> bytes:
        """Before the first piece."""
        ...

    def piece(self, piece: Piece) -> bytes:
        """The next piece."""
        ...

    def ending(self, ending: Ending, deltas: int, offset: int) -> bytes:
        """After the last piece: ``deltas`` came before the terminal, which lies at ``offset``."""
        ...

    def settled(self) -> bytes:
        """The end, once the history has the answer."""
        ...

    def failed(self, refusal: Refusal) -> bytes:
        """The end of a turn that failed."""
        ...

    def broken(self, refusal: Refusal) -> bytes:
        """The end of this view of a turn that goes on."""
        ...


def reconnect_frame(milliseconds: int) -> bytes:
    """Tells an EventSource how long to wait before it comes back."""
    return b"retry: %d\n\n" % milliseconds


def error_frame(refusal: Refusal) -> bytes:
    """The frame that ends a broken stream; openai-python raises APIError on it."""
    return b"data: " + error_body(refusal) + FRAME_END


def error_body(refusal: Refusal) -> bytes:
    """OpenAI's error object with all four keys, as JSON."""
    return to_json({"error": refusal.error})


def escape(text: str) -> bytes:
    """``text`` as a JSON string that no SSE reader breaks into lines."""
    return on_one_line(to_json(text), text)


def on_one_line(encoded: bytes, text: str | None = None) -> bytes:
    """``encoded`` JSON without raw line ends; ``text`` is what it says, if that is cheaper to look at."""
    if text is None or not text.isascii():
        for raw, replacement in _RAW_LINE_ENDS:
            encoded = encoded.replace(raw, replacement)
    return encoded
