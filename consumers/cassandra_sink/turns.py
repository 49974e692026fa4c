"""One turn as the sink holds it: the reducer's state, and the text that counted. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from schemas.ports import Received
from schemas.stream_state import INITIAL, StreamState, advance
from schemas.tokens import Delta, Persisted, TokenEvent


@dataclass(frozen=True, slots=True)
class HeldTurn:
    """An answer on its way. Times are record timestamps, in Unix milliseconds.

    ``last_ms`` is that of the last record that counted, up to the terminal: for an ended turn the time of its end.
    ``text`` is what the accepted deltas say, up to the sink's bound (``text_cut`` when it goes on beyond).
    ``released``: overdue; it no longer keeps the partition's position back, but may still end.
    """

    first_offset: int
    opened_ms: int
    last_ms: int
    state: StreamState = INITIAL
    text: str = ""
    text_bytes: int = 0
    text_cut: bool = False
    drafted_ms: int | None = None
    drafted_seq: int = 0
    released: bool = False
    traceparent: str | None = None

    @property
    def ended(self) -> bool:
        """Whether the turn is cleared and has its terminal: there is something final to write."""
        return self.state.cleared is not None and self.state.terminal is not None

    @property
    def undrafted(self) -> bool:
        """Whether there is text, or the turn itself, that no draft has shown."""
        return self.drafted_ms is None or self.drafted_seq < self.state.next_seq


def opened_by(received: Received[TokenEvent]) -> HeldTurn:
    """A turn of which ``received`` is the first record seen."""
    record = received.record
    return HeldTurn(
        first_offset=record.offset,
        opened_ms=record.timestamp_ms,
        last_ms=record.timestamp_ms,
        traceparent=received.traceparent,
    )


def fold(turn: HeldTurn, records: Sequence[Received[TokenEvent]], text_bytes_max: int) -> HeldTurn:
    """The turn after ``records``, in log order. The same object when none of them counts."""
    state, last_ms = turn.state, turn.last_ms
    pieces: list[str] = []
    for received in records:
        following = advance(state, received.event)
        if following is state:
            continue
        state = following
        if isinstance(received.event, Persisted):
            continue
        last_ms = received.record.timestamp_ms
        if isinstance(received.event, Delta):
            pieces.append(received.event.content.text)
    if state is turn.state:
        return turn
    return _with_text(replace(turn, state=state, last_ms=last_ms), pieces, text_bytes_max)


def _with_text(turn: HeldTurn, pieces: Sequence[str], text_bytes_max: int) -> HeldTurn:
    kept: list[str] = []
    size = turn.text_bytes
    cut = turn.text_cut
    for piece in pieces:
        grown = size + len(piece.encode())
        # Once cut, for good: a later, shorter piece would leave a hole, and the text would depend on the batches.
        cut = cut or grown > text_bytes_max
        if cut:
            break
        size = grown
        kept.append(piece)
    return replace(turn, text=turn.text + "".join(kept), text_bytes=size, text_cut=cut)
