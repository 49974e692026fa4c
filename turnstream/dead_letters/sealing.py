"""A record without what users and models wrote: of text only that stays which cannot be content. Pure.

A dead letter may be anything, also content where an id belongs. So nothing is shown because it is no content; what is
shown is known: names of fields of the contract, numbers, and short words in fields that hold ids and names.
"""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any, Final

from producers.redrive.mending import parse_document
from schemas import headers
from schemas.errors import Malformed
from schemas.headers import Headers
from schemas.serde import adapter
from schemas.topics import ALL_TOPICS

_WORD: Final = re.compile(r"[A-Za-z0-9_.:|/-]{1,96}")
_SHOWN: Final = frozenset(
    (
        "turn_id",
        "conversation_id",
        "tenant_id",
        "user_id",
        "key_id",
        "session_id",
        "model",
        "served_model",
        "pool",
        "plan",
        "type",
        "kind",
        "role",
        "api",
        "stage",
        "owner",
        "finish_reason",
        "reason",
        "decision",
        "code",
        "region",
    )
)
_HEADERS: Final = frozenset(
    (
        headers.SCHEMA,
        headers.TURN,
        headers.TRACEPARENT,
        headers.ATTEMPT,
        headers.TENANT,
        headers.REPLAY,
        headers.REDRIVE,
        headers.CARRIED,
        headers.DLQ_TOPIC,
        headers.DLQ_PARTITION,
        headers.DLQ_OFFSET,
        headers.DLQ_STAGE,
    )
)


def sealed_value(value: bytes) -> Any:
    """The JSON of ``value`` with its text replaced by how long it is; of anything else its size."""
    try:
        return _sealed(parse_document(value), name="")
    except (Malformed, RecursionError):
        return f"<no JSON: {len(value)} bytes>"


def sealed_headers(written: Headers) -> dict[str, str]:
    """Headers by name; of those that we do not know, and of values that are no short words, the size."""
    shown: dict[str, str] = {}
    for name, value in written:
        text = value.decode("utf-8", "replace")
        # The cause is written without content.
        known = name == headers.DLQ_ERROR or (name in _HEADERS and _WORD.fullmatch(text) is not None)
        label = name if name in _HEADERS or name == headers.DLQ_ERROR else f"<{len(name)} characters>"
        shown[label] = text if known else f"<{len(value)} bytes>"
    return shown


def sealed_key(key: bytes | None) -> str:
    """A key if it looks like one, else its size."""
    text = (key or b"").decode("utf-8", "replace")
    return text if _WORD.fullmatch(text) else f"<{len(key or b'')} bytes>"


def _sealed(value: Any, name: str) -> Any:
    if isinstance(value, dict):
        return {_field(key): _sealed(each, key) for key, each in value.items()}
    if isinstance(value, list):
        return [_sealed(each, name) for each in value]
    if isinstance(value, str) and not (name in _SHOWN and _WORD.fullmatch(value)):
        return f"<{len(value)} characters>"
    return value


def _field(name: str) -> str:
    return name if name in _field_names() else f"<{len(name)} characters>"


@cache
def _field_names() -> frozenset[str]:
    """Names of all fields of the contract."""
    return frozenset(name for topic in ALL_TOPICS for name in _properties(adapter(topic).json_schema()))


def _properties(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        found = schema.get("properties")
        if isinstance(found, dict):
            yield from found
        for each in schema.values():
            yield from _properties(each)
    elif isinstance(schema, list):
        for each in schema:
            yield from _properties(each)
