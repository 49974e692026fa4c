"""Records in and out of Faust's streams, in the terms of the contract."""

from collections.abc import AsyncIterator, Iterable
from typing import Any, Final

import structlog

from schemas import headers
from schemas.errors import Malformed
from schemas.serde import decode
from schemas.topics import Topic

STAGE: Final = "windows"

_log: Final = structlog.get_logger(__name__)


def raw_topic(app: Any, name: str) -> Any:
    """A topic of the app whose keys and values are bytes; it must exist."""
    return app.topic(name, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")


async def send(topic: Any, key: bytes | None, value: bytes, marks: headers.Headers) -> None:
    """Write one record and wait until the broker has it."""
    await send_all(topic, [(key, value)], marks)


async def send_all(topic: Any, records: Iterable[tuple[bytes | None, bytes]], marks: headers.Headers) -> None:
    """Write records, each a key and a value, with the same headers, and wait until the broker has all of them."""
    # The first await hands a record over, the second waits until the broker has it.
    handed_over = [await topic.send(key=key, value=value, headers=list(marks)) for key, value in records]
    for acknowledged in handed_over:
        await acknowledged


async def live_events(stream: Any, source: Topic, dead_letters: Any) -> AsyncIterator[tuple[Any, Any]]:
    """Each event of ``stream`` with its message. Shadow records are left out, malformed ones go to ``dead_letters``."""
    async for record in stream.events():
        message = record.message
        if headers.header(marks_of(message), headers.REPLAY) is not None:
            continue
        try:
            event = decode(source, record.value)
        except Malformed as error:
            await _bury(dead_letters, message, record.value, str(error))
            continue
        yield event, message


def marks_of(message: Any) -> headers.Headers:
    """The headers of a message of Faust's."""
    found = message.headers or ()
    return tuple(found.items() if isinstance(found, dict) else found)


async def _bury(dead_letters: Any, message: Any, value: bytes, reason: str) -> None:
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
    await send(dead_letters, message.key, value, (*marks_of(message), *origin))
