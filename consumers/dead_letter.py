"""What happens to a record that can never be processed: it is kept for operators, and its client is told. Pure."""

from typing import Final

from consumers.dead_bill import dead_bill
from schemas import headers
from schemas.bills import LOCAL_REGION
from schemas.errors import Malformed, server_error
from schemas.headers import header, make_headers
from schemas.ids import parse_turn_id, turn_partition
from schemas.ports import Outgoing, Record
from schemas.serde import encode, event_headers
from schemas.tokens import Failed
from schemas.topics import TOKENS, Topic

CAUSE_CHARS_MAX: Final = 300
_ORIGIN: Final = frozenset(
    (headers.DLQ_TOPIC, headers.DLQ_PARTITION, headers.DLQ_OFFSET, headers.DLQ_STAGE, headers.DLQ_ERROR)
)


def bury(
    source: Topic, record: Record, stage: str, cause: Exception, region: str = LOCAL_REGION
) -> tuple[Outgoing, ...]:
    """The records that end ``record``: its dead letter and, of a turn that is under way, a ``Failed`` event and a bill.

    No letter for a topic without dead letters.
    """
    letter = dead_letter(source, record, stage, cause) if source.dead_letters else None
    endings = (letter, failed_turn(record), dead_bill(source, record, region))
    return tuple(ending for ending in endings if ending is not None)


def dead_letter(source: Topic, record: Record, stage: str, cause: Exception) -> Outgoing:
    """``record`` unchanged for ``<topic>.dlq``, with its headers plus where it came from, in which stage, and why."""
    kept = tuple(pair for pair in record.headers if pair[0] not in _ORIGIN)
    origin = make_headers(
        (
            (headers.DLQ_TOPIC, record.topic),
            (headers.DLQ_PARTITION, str(record.partition)),
            (headers.DLQ_OFFSET, str(record.offset)),
            (headers.DLQ_STAGE, stage),
            (headers.DLQ_ERROR, explain(cause)),
        )
    )
    return Outgoing(source.dlq, record.key or b"", record.value, kept + origin)


def failed_turn(record: Record) -> Outgoing | None:
    """The unconditional end of the turn that ``record`` belongs to.

    None without a well-formed ``turn`` header, and for a replayed record: nobody waits for its answer.
    """
    turn_id = turn_of(record)
    if turn_id is None or headers.is_replayed(record.headers):
        return None
    refusal = server_error("The turn could not be processed.", code="turn_failed")
    return Outgoing(
        TOKENS.name,
        turn_id.encode(),
        encode(Failed(turn_id=turn_id, refusal=refusal)),
        event_headers(TOKENS, turn_id, header(record.headers, headers.TRACEPARENT)),
        turn_partition(turn_id),
    )


def turn_of(record: Record) -> str | None:
    """The turn id in the record's ``turn`` header, or None."""
    text = header(record.headers, headers.TURN)
    if text is None:
        return None
    try:
        return parse_turn_id(text)
    except ValueError:
        return None


def explain(cause: Exception) -> str:
    """The cause in words that hold no content: our own classes say why, of anything else only the class is told."""
    name = type(cause).__name__
    ours = isinstance(cause, Malformed)
    return f"{name}: {cause}"[:CAUSE_CHARS_MAX] if ours else name
