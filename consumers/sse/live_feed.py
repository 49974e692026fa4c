"""The turns that are followed live: records in, events of open turns out to their readers.

Records are told apart by their key alone; only those of open turns are decoded, once, whatever the number of readers.
"""

from consumers.sse.live_turn import LiveTurn
from consumers.sse.turn_reader import TurnReader
from schemas.ports import Record
from schemas.stream_state import StreamState


class LiveFeed:
    """Open turns by their key. Used on one event loop alone."""

    def __init__(self, edge_id: str) -> None:
        self._edge_id = edge_id
        self._turns: dict[bytes, LiveTurn] = {}
        # Turns with records since the last ``deliver``, in order.
        self._fed: dict[LiveTurn, None] = {}

    def take(self, record: Record) -> bool:
        """Push the next record of a followed partition to its turn's readers; whether its turn is open here."""
        turn = self._turns.get(record.key or b"")
        if turn is None:
            return False
        turn.take(record, self._edge_id)
        self._fed[turn] = None
        return True

    def deliver(self) -> None:
        """Pass on all that was pushed: a turn with several records gets them in one piece."""
        fed, self._fed = self._fed, {}
        for turn in fed:
            turn.deliver()

    def find(self, turn_id: str) -> LiveTurn | None:
        """A turn that is open here."""
        return self._turns.get(turn_id.encode())

    def attach(self, key: bytes, reader: TurnReader, state: StreamState) -> None:
        """Feed ``reader`` with what comes; a turn that nobody follows yet is in ``state``."""
        turn = self._turns.get(key)
        if turn is None:
            turn = self._turns[key] = LiveTurn(state)
        turn.readers.append(reader)

    def detach(self, key: bytes, reader: TurnReader) -> None:
        """Feed ``reader`` no more; means nothing for one that is not fed."""
        turn = self._turns.get(key)
        if turn is not None and reader in turn.readers:
            turn.readers.remove(reader)
            self._forget_unused(key, turn)

    def hold(self, turn_id: str) -> None:
        """Keep a turn's state when its readers leave, until ``release``."""
        turn = self.find(turn_id)
        if turn is not None:
            turn.holds += 1

    def release(self, turn_id: str) -> None:
        """Undo one ``hold``."""
        turn = self.find(turn_id)
        if turn is not None:
            turn.holds -= 1
            self._forget_unused(turn_id.encode(), turn)

    def _forget_unused(self, key: bytes, turn: LiveTurn) -> None:
        if not turn.readers and turn.holds == 0:
            del self._turns[key]
