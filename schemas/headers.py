"""Record headers: text, readable with any Kafka tool."""

from collections.abc import Iterable
from typing import Final

Headers = tuple[tuple[str, bytes], ...]

TURN: Final = "turn"
SCHEMA: Final = "schema"
TRACEPARENT: Final = "traceparent"
ATTEMPT: Final = "attempt"
TENANT: Final = "tenant"
# The id of a shadow run: such a record is never billed, stored or shown to a user.
REPLAY: Final = "replay"
# The place of the dead letter from which a record was driven again; it is as live as any other.
REDRIVE: Final = "redrive"
CARRIED: Final = "carried"
# On dead letters: where the record came from and why it is here.
DLQ_TOPIC: Final = "dlq-topic"
DLQ_PARTITION: Final = "dlq-partition"
DLQ_OFFSET: Final = "dlq-offset"
DLQ_STAGE: Final = "dlq-stage"
DLQ_ERROR: Final = "dlq-error"


def is_replayed(headers: Headers) -> bool:
    """Whether a record is marked as a replay: on a live topic it has no effect at all."""
    return has_header(headers, REPLAY)


def has_header(headers: Headers, name: str) -> bool:
    """Whether there is a header of this name."""
    # Asked of every record: a generator would cost three times as much.
    for key, _ in headers:  # noqa: SIM110
        if key == name:
            return True
    return False


def make_headers(values: Iterable[tuple[str, str | None]]) -> Headers:
    """Headers of the pairs whose value is not None, in order."""
    return tuple((name, value.encode()) for name, value in values if value is not None)


def header(headers: Headers, name: str) -> str | None:
    """The first value of ``name``, or None when it is absent or not UTF-8."""
    for key, value in headers:
        if key == name:
            try:
                return value.decode()
            except UnicodeDecodeError:
                return None
    return None
