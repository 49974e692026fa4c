"""How large a record is for the broker, decided before anything is sent."""

from typing import Final

from aiokafka.record.default_records import DefaultRecordBatchBuilder

from schemas.errors import RecordTooLarge
from schemas.ports import Outgoing
from schemas.topics import MAX_RECORD_BYTES, plan_topics

_MESSAGE_BYTES: Final = "max.message.bytes"


def record_bytes(record: Outgoing) -> int:
    """An upper bound, in bytes, of the uncompressed batch that holds ``record`` alone."""
    size: int = DefaultRecordBatchBuilder.estimate_size_in_bytes(record.key, record.value, list(record.headers))
    return size


def check_size(record: Outgoing) -> None:
    """Raise RecordTooLarge for a record that the broker would not take.

    The broker's refusal would come too late: it leaves an idempotent aiokafka producer unusable.
    """
    size = record_bytes(record)
    limit = _LIMITS.get(record.topic, MAX_RECORD_BYTES)
    if size > limit:
        raise RecordTooLarge(f"{record.topic}: a record of {size} bytes exceeds the limit of {limit}")


_LIMITS: Final = {plan.name: int(dict(plan.config)[_MESSAGE_BYTES]) for plan in plan_topics(None, None, 1)}
