"""The bill of a turn that was admitted and whose record is a dead letter: no later stage will write it. Pure."""

from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from schemas.accounts import Account
from schemas.bills import unused_bill
from schemas.events import Decision, FinishReason, Turn
from schemas.headers import TRACEPARENT, header, is_replayed
from schemas.ports import Outgoing, Record
from schemas.serde import encode, event_headers
from schemas.topics import INFERENCE_REQUESTS, TURNS_ADMITTED, TURNS_PROMPTED, USAGE_EVENTS, Topic

# From its admission on a turn has a bill, and a reservation that a bill gives back.
_ADMITTED: Final = frozenset({TURNS_ADMITTED, TURNS_PROMPTED, *INFERENCE_REQUESTS.values()})


class _Billable(BaseModel):
    """What of a record a bill needs; the rest of it may be what is wrong with it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    turn: Turn
    account: Account
    pool: str
    served_model: str | None = None


def dead_bill(source: Topic, record: Record, region: str) -> Outgoing | None:
    """The unused bill of the turn in ``record``; it is the same when the record is buried again.

    None before the turn's admission, for a replayed record, and where account or turn cannot be read: then nobody can
    be billed, and the reservation ends by its own time.
    """
    if source not in _ADMITTED or is_replayed(record.headers):
        return None
    try:
        found = _Billable.model_validate_json(record.value)
    except ValidationError:
        return None
    bill = unused_bill(
        found.turn,
        found.account,
        model=found.served_model or found.turn.model,
        pool=found.pool,
        reason=FinishReason.FAILED,
        decision=Decision.ALLOWED,
        recorded_at_ms=record.timestamp_ms,
        region=region,
    )
    written = event_headers(USAGE_EVENTS, bill.turn_id, header(record.headers, TRACEPARENT))
    return Outgoing(USAGE_EVENTS.name, bill.user_id.encode(), encode(bill), written)
