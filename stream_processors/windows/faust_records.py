"""Records in and out of Faust's streams, in the terms of the contract."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import structlog

from schemas import headers
from schemas.errors import Malformed
from schemas.serde import decode
from schemas.topics import Topic

STAGE: Final = "windows"

_log: Final = structlog.get_logger(__name__)


class Write(NamedTuple):
    """A record to be written. Without a ``partition`` its key decides."""

    topic: str
    key: bytes | None
    value: bytes | None
    marks: headers.Headers
    partition: int | None = None


class Taken(NamedTuple):
    """An event with the record it came in."""

    event: Any
    message: Any


def raw_topic(app: Any, name: str) -> Any:
    """A topic of the app whose keys and values are bytes; it must exist."""
    return app.topic(name, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")


def live_events(records: Iterable[Any], sources: Mapping[str, Topic], buried: list[Write]) -> Iterator[Taken]:
    """The events in records of Faust's. Shadow records are left out, malformed ones go to ``buried`` instead."""
    for record in records:
        message = record.message
        if headers.is_replayed(marks_of(message)):
            continue
        source = sources[message.topic]
        try:
            yield Taken(decode(source, record.value), message)
        except Malformed as error:
            buried.append(_letter(source, message, record.value, str(error)))


def marks_of(message: Any) -> headers.Headers:
    """The headers of a message of Faust's."""
    return tuple(message.headers or ())


def trace_of(message: Any) -> str | None:
    """The trace that a message belongs to."""
    return headers.header(marks_of(message), headers.TRACEPARENT)


def _letter(source: Topic, message: Any, value: bytes, reason: str) -> Write:
    _log.warning("record_malformed", topic=message.topic, partition=message.partition, offset=message.offset)
    origin = headers.make_headers(
        (
            (headers.DLQ_TOPIC, message.topic),
            (headers.DLQ_PARTITION, str(message.partition)),
            (headers.DLQ_OFFSET, str(message.offset)),
            (headers.DLQ_STAGE, STAGE),
            (headers.DLQ_ERROR, reason),
        )
    )
    return Write(source.dlq, message.key, value, (*marks_of(message), *origin))
