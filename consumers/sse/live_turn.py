"""One turn as it is followed live: its state by the fence reducer, and who is fed from it."""

from typing import Final

import structlog

from consumers.sse.turn_reader import TurnReader
from schemas import serde
from schemas.errors import Malformed
from schemas.headers import TRACEPARENT, header
from schemas.ports import Placed, Record
from schemas.stream_state import StreamState, advance
from schemas.tokens import Attached

_LOG: Final = structlog.get_logger(__name__)


class LiveTurn:
    """``followed_elsewhere``: another edge was the last to say that a client follows the turn there."""

    __slots__ = ("followed_elsewhere", "holds", "readers", "state", "traceparent")

    def __init__(self, state: StreamState) -> None:
        self.state = state
        self.traceparent: str | None = None
        self.readers: list[TurnReader] = []
        self.holds = 0
        self.followed_elsewhere = False

    def take(self, record: Record, edge_id: str) -> None:
        """Push the next record of the turn to its readers, if it counts."""
        try:
            event = serde.decode_token(record.value, record.headers)
        except Malformed:
            # It counts for no reader of the log; the sink's loop puts it among the dead letters.
            _LOG.warning("token_record_malformed", partition=record.partition, offset=record.offset)
            return
        if isinstance(event, Attached):
            self.followed_elsewhere = event.edge_id != edge_id
            return
        before = self.state
        self.state = advance(before, event)
        if self.state is before:
            return
        self.traceparent = self.traceparent or header(record.headers, TRACEPARENT)
        placed, size_bytes = Placed(event, record.offset), len(record.value)
        # A copy: a reader that falls behind leaves meanwhile.
        for reader in tuple(self.readers):
            reader.push(placed, size_bytes, before)

    def deliver(self) -> None:
        """Let the readers pass on what was pushed to them."""
        for reader in tuple(self.readers):
            reader.deliver()
