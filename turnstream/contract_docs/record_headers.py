"""What each record header says; the names are those of ``schemas.headers``."""

from dataclasses import dataclass
from typing import Final

from schemas import headers


@dataclass(frozen=True, slots=True)
class HeaderField:
    """One header: its name, its meaning, and whether every record has it."""

    name: str
    meaning: str
    always: bool = False


RECORD_HEADERS: Final = (
    HeaderField(headers.SCHEMA, "Name of the topic whose schema the value has.", always=True),
    HeaderField(headers.TURN, "Id of the turn that the record belongs to."),
    HeaderField(headers.TRACEPARENT, "W3C trace context of the request."),
    HeaderField(headers.ATTEMPT, "How often the record was given to its stage before."),
    HeaderField(headers.TENANT, "Tenant of the turn, on requests for inference: tenants are served in fair shares."),
    HeaderField(headers.CARRIED, "Present when the stage that reads the topic had the event already, in one process."),
    HeaderField(headers.REPLAY, "Id of the shadow run that wrote the record: never billed, stored or shown to a user."),
    HeaderField(headers.REDRIVE, "Place of the dead letter from which the record was driven again; it is live."),
)
DEAD_LETTER_HEADERS: Final = (
    HeaderField(headers.DLQ_TOPIC, "Topic that the record came from.", always=True),
    HeaderField(headers.DLQ_PARTITION, "Partition that the record came from.", always=True),
    HeaderField(headers.DLQ_OFFSET, "Offset that the record had.", always=True),
    HeaderField(headers.DLQ_STAGE, "Stage that gave the record up.", always=True),
    HeaderField(headers.DLQ_ERROR, "Why, without content.", always=True),
)
