"""One turn as it is followed live: its state by the fence reducer, and who is fed from it."""

from typing import Final

import structlog

from consumers.sse.turn_reader import TurnReader
from schemas import serde
from schemas.errors import Malformed
from schemas.headers import TRACEPARENT, Headers, header
from schemas.plain_deltas import PlainDeltas
from schemas.ports import Placed, Record
from schemas.stream_state import StreamState, advance, after_deltas
from schemas.tokens import Attached, AttemptStarted, Delta, TokenEvent

_LOG: Final = structlog.get_logger(__name__)


class LiveTurn:
    """``followed_elsewhere``: another edge was the last to say that a client follows the turn there."""

    __slots__ = ("_deltas", "_headers", "followed_elsewhere", "holds", "readers", "state", "traceparent")

    def __init__(self, state: StreamState) -> None:
        self.state = state
        self.traceparent: str | None = None
        self.readers: list[TurnReader] = []
        self.holds = 0
        self.followed_elsewhere = False
        # How the owner writes its deltas, and with which headers, once a record of it was decoded.
        self._deltas: PlainDeltas | None = None
        self._headers: Headers = ()

    def take(self, record: Record, edge_id: str) -> None:
        """Push the next record of the turn to its readers, if it counts."""
        before = self.state
        if self._deltas is not None and record.headers == self._headers and before.terminal is None:
            # Nearly every record: no more work than it takes.
            plain = self._deltas.decode(record.value, before.next_seq)
            if plain is not None:
                self.state = after_deltas(before, 1)
                self._push(Placed(plain, record.offset), record, before)
                return
        event = self._decoded(record)
        if isinstance(event, Attached):
            self.followed_elsewhere = event.edge_id != edge_id
        elif event is not None:
            self.state = advance(before, event)
            if self.state is not before:
                self._know(event, record)
                self._push(Placed(event, record.offset), record, before)

    def _decoded(self, record: Record) -> TokenEvent | None:
        try:
            return serde.decode_token(record.value, record.headers)
        except Malformed:
            # It counts for no reader of the log; the sink's loop puts it among the dead letters.
            _LOG.warning("token_record_malformed", partition=record.partition, offset=record.offset)
            return None

    def _know(self, event: TokenEvent, record: Record) -> None:
        self.traceparent = self.traceparent or header(record.headers, TRACEPARENT)
        if isinstance(event, AttemptStarted) or (self._deltas is None and isinstance(event, Delta)):
            self._deltas = PlainDeltas(event.turn_id, event.attempt, event.owner)
            self._headers = record.headers

    def _push(self, placed: Placed, record: Record, before: StreamState) -> None:
        # A copy: a reader that falls behind leaves meanwhile.
        for reader in tuple(self.readers):
            reader.push(placed, len(record.value), before)

    def deliver(self) -> None:
        """Let the readers pass on what was pushed to them."""
        for reader in tuple(self.readers):
            reader.deliver()
