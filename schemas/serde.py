"""Events to bytes and back: JSON, readable by kcat, analysts and consoles.

The one place that knows the wire format; sealing of content will be added here.
"""

from functools import cache
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from schemas import headers
from schemas.errors import Malformed
from schemas.event import Event
from schemas.headers import Headers
from schemas.tokens import TokenEvent
from schemas.topics import ALL_TOPICS, TOKENS, Topic


def encode(event: Event) -> bytes:
    """The record value of ``event``: compact JSON without absent fields."""
    return event.__pydantic_serializer__.to_json(event, exclude_none=True)


def decode(topic: Topic, value: bytes) -> Any:
    """The event in a record of ``topic``. Raises Malformed, naming fields but never their content."""
    try:
        return (_VALIDATORS.get(topic.name) or adapter(topic).validator).validate_json(value)
    except ValidationError as error:
        raise Malformed(f"{topic.name}: {_explain(error)}") from None


def decode_token(value: bytes, written: Headers = ()) -> TokenEvent:
    """The event in a record of ``chat.tokens.v1`` with the headers ``written``.

    Raises Malformed, also for a replayed record: an answer that was generated again counts for no reader of the log.
    """
    check_schema(TOKENS, written)
    if headers.is_replayed(written):
        raise Malformed("chat.tokens.v1: a replayed record")
    try:
        event: TokenEvent = _TOKEN_EVENTS.validate_json(value)
    except ValidationError as error:
        raise Malformed(f"chat.tokens.v1: {_explain(error)}") from None
    return event


def check_schema(topic: Topic, written: Headers) -> None:
    """Refuse a record whose header names another schema than its topic's: Malformed. Without the header it may pass."""
    for name, value in written:
        if name == headers.SCHEMA and value != topic.name.encode():
            # What it names is not told: anybody may have written it.
            raise Malformed(f"{topic.name}: the record has another schema")


def event_headers(topic: Topic, turn_id: str | None, traceparent: str | None = None) -> Headers:
    """The headers of a new record on ``topic``."""
    written: Headers = ((headers.SCHEMA, topic.name.encode()),)
    if turn_id is not None:
        written += ((headers.TURN, turn_id.encode()),)
    if traceparent is not None:
        written += ((headers.TRACEPARENT, traceparent.encode()),)
    return written


@cache
def adapter(topic: Topic) -> TypeAdapter[Any]:
    """The validator and JSON Schema source of the topic's events."""
    return topic.event if isinstance(topic.event, TypeAdapter) else TypeAdapter(topic.event)


# Looked up for every record: by name, because hashing a whole Topic costs as much as decoding a small event.
_VALIDATORS: Final = {topic.name: adapter(topic).validator for topic in ALL_TOPICS}
_TOKEN_EVENTS: Final = _VALIDATORS[TOKENS.name]

_PROBLEMS_MAX: Final = 5
_QUOTING: Final = frozenset(("union_tag_invalid", "value_error", "assertion_error"))


def _explain(error: ValidationError) -> str:
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(f"{'.'.join(map(str, p['loc'])) or 'value'}: {_message(p)}" for p in problems[:_PROBLEMS_MAX])


def _message(problem: ErrorDetails) -> str:
    # These messages quote what they found.
    return problem["type"] if problem["type"] in _QUOTING else problem["msg"]
