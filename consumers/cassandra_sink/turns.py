"""One turn as the sink holds it: the reducer's state, and the text that counted. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from consumers.cassandra_sink.pieces import NO_PIECES, Pieces
from schemas.answer_extras import split
from schemas.headers import is_replayed
from schemas.ports import Received
from schemas.stream_state import INITIAL, StreamState, advance
from schemas.tokens import Cancelled, Cleared, Delta, Failed, Finished, Persisted, Refused, TokenEvent

# What the length of one piece takes in memory.
_PIECE_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class TextBounds:
    """How much of one answer is kept."""

    bytes_max: int
    pieces_max: int


class HeldTurn(NamedTuple):
    """An answer on its way. Times are record timestamps, in Unix milliseconds.

    ``last_ms`` is that of the last record that counted, up to the terminal: for an ended turn the time of its end.
    ``pieces`` are the texts of the accepted deltas and ``extras`` what else they say (``schemas.answer_extras``), up to
    the sink's bounds (``text_cut`` when it goes on beyond), ``text_bytes`` their UTF-8 length and ``input_bytes`` that
    of the turn's own messages. ``gapped``: a record showed that earlier ones were missed here, so that only the log
    knows the turn. ``replay``: a marked replay, which is never stored.
    """

    first_offset: int
    opened_ms: int
    last_ms: int
    state: StreamState = INITIAL
    pieces: Pieces = NO_PIECES
    extras: Pieces = NO_PIECES
    text_bytes: int = 0
    text_cut: bool = False
    input_bytes: int = 0
    gapped: bool = False
    replay: bool = False
    drafted_ms: int | None = None
    drafted_seq: int = 0
    traceparent: str | None = None

    @property
    def text(self) -> str:
        """What the accepted deltas say."""
        return self.pieces.text

    @property
    def held_bytes(self) -> int:
        """About what the turn takes in memory."""
        return self.text_bytes + self.input_bytes + _PIECE_BYTES * (self.pieces.count + self.extras.count)

    @property
    def ended(self) -> bool:
        """Whether the turn is cleared and has its terminal: there is something final to write."""
        return self.state.cleared is not None and self.state.terminal is not None

    @property
    def whole(self) -> bool:
        """Whether all of the turn was seen, as far as its records tell."""
        return self.state.cleared is not None and not self.gapped

    @property
    def explained(self) -> bool:
        """Whether the turn may end with what was seen of it.

        An end that anybody may write, before any text, says nothing of records that were missed.
        """
        terminal = self.state.terminal
        anybodys = isinstance(terminal, Cancelled) or (isinstance(terminal, Failed) and terminal.attempt is None)
        return self.whole and not (anybodys and self.state.next_seq == 0)

    @property
    def nobodys(self) -> bool:
        """Whether the turn leaves nothing in the store: stateless, a replay, or over without ever being cleared."""
        if self.state.cleared is None:
            return self.state.terminal is not None
        return self.replay or not self.state.cleared.stored

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


def claims_end(records: Iterable[Received[TokenEvent]]) -> bool:
    """Whether a record may end a turn that was cleared, whether or not it counts."""
    return any(isinstance(received.event, Finished | Failed | Cancelled) for received in records)


def fold(turn: HeldTurn, records: Sequence[Received[TokenEvent]], bounds: TextBounds) -> HeldTurn:
    """The turn after ``records``, in log order. The same object when none of them says anything."""
    state, last_ms, gapped = turn.state, turn.last_ms, turn.gapped
    deltas: list[Delta] = []
    for received in records:
        event = received.event
        following = advance(state, event)
        if following is state:
            gapped = gapped or _shows_gap(state, event)
            continue
        state = following
        if isinstance(event, Persisted):
            continue
        last_ms = received.record.timestamp_ms
        if isinstance(event, Delta):
            deltas.append(event)
        elif isinstance(event, Cleared):
            turn = _with_clearance(turn, received, event)
    if state is turn.state and gapped == turn.gapped:
        return turn
    turn = turn._replace(state=state, last_ms=last_ms, gapped=gapped)
    return _with_text(turn, deltas, bounds) if deltas else turn


def _shows_gap(state: StreamState, event: TokenEvent) -> bool:
    """Whether ``event`` tells of records that were missed: an owner writes only what follows from the log.

    No attempt writes before its fence is on the log, and none says ``seq`` without the deltas before it.
    """
    if state.terminal is not None or isinstance(event, Refused):
        return False
    if isinstance(event, Delta | Finished):
        if state.owned_by(event.attempt, event.owner):
            return event.seq > state.next_seq
        return event.attempt > state.attempt
    return isinstance(event, Failed) and event.attempt is not None and event.attempt > state.attempt


def _with_clearance(turn: HeldTurn, received: Received[TokenEvent], cleared: Cleared) -> HeldTurn:
    return turn._replace(
        input_bytes=sum(len(message.content.text.encode()) for message in cleared.input),
        replay=is_replayed(received.record.headers),
    )


def _with_text(turn: HeldTurn, deltas: Sequence[Delta], bounds: TextBounds) -> HeldTurn:
    texts: list[str] = []
    extras: list[str] = []
    size, room = turn.text_bytes, bounds.pieces_max - len(turn.pieces)
    cut = turn.text_cut
    for delta in deltas:
        text, extra = split(delta)
        grown = size + len(text.encode()) + len(extra.encode())
        # Once cut, for good: a later, shorter piece would leave a hole, and the text would depend on the batches.
        cut = cut or grown > bounds.bytes_max or len(texts) >= room
        if cut:
            break
        size = grown
        texts.append(text)
        if extra:
            extras.append(extra)
    return turn._replace(
        pieces=turn.pieces.and_then(texts),
        extras=turn.extras.and_then(extras),
        text_bytes=size,
        text_cut=cut,
    )
