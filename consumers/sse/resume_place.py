"""Going on in the middle of a turn: the reducer's state at a cursor, without the turn's beginning. Pure."""

from schemas import serde
from schemas.cursors import Cursor
from schemas.errors import Malformed
from schemas.ports import Record
from schemas.stream_state import StreamState
from schemas.tokens import Cancelled, Cleared, Delta, Failed, Finished


def state_before(record: Record, cleared: Cleared, cursor: Cursor) -> StreamState | None:
    """The state of the turn of ``cleared`` in which ``record``, the one that ``cursor`` names, counts.

    That it counted is vouched for by the cursor's signature: whoever signed it had folded the turn. None when the
    record is not what the cursor says: the log was replaced, or the cursor was made from the store.
    """
    if record.key != cleared.turn_id.encode():
        return None
    try:
        event = serde.decode_token(record.value, record.headers)
    except Malformed:
        return None
    match event:
        case Delta() | Finished() if event.seq == cursor.seq:
            return StreamState(cleared, event.attempt, event.owner, event.seq)
        case Failed():
            return StreamState(cleared, event.attempt or 0, event.owner, cursor.seq)
        case Cancelled():
            return StreamState(cleared, next_seq=cursor.seq)
        case _:
            return None
