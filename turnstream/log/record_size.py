"""How large a record is for the broker, decided before anything is sent."""

from typing import Final

from schemas.errors import RecordTooLarge
from schemas.ports import Outgoing
from schemas.topics import MAX_RECORD_BYTES, plan_topics

# Upper bounds of record format v2: a batch header of 61 bytes, a record's varints of at most 36 together.
_FIXED_BYTES: Final = 61 + 36
# The two length varints of a header.
_HEADER_BYTES: Final = 10
_MESSAGE_BYTES: Final = "max.message.bytes"


def record_bytes(record: Outgoing) -> int:
    """An upper bound, in bytes, of the uncompressed batch that holds ``record`` alone."""
    total = _FIXED_BYTES + len(record.key) + len(record.value)
    for name, value in record.headers:
        name_bytes = len(name) if name.isascii() else len(name.encode())
        total += _HEADER_BYTES + name_bytes + len(value)
    return total


def check_size(record: Outgoing) -> None:
    """Raise RecordTooLarge for a record that the broker would not take.

    The broker's refusal would come too late: it leaves an idempotent aiokafka producer unusable.
    """
    size = record_bytes(record)
    limit = _LIMITS.get(record.topic, MAX_RECORD_BYTES)
    if size > limit:
        raise RecordTooLarge(f"{record.topic}: a record of {size} bytes exceeds the limit of {limit}")


_LIMITS: Final = {plan.name: int(dict(plan.config)[_MESSAGE_BYTES]) for plan in plan_topics(None, None, 1)}
