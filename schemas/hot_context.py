"""The layout of a hot context: the Redis hash that holds a conversation's recent messages.

Key: ``schemas.redis_keys.hot_context``. Fields: one per message, ``field_of(message_seq)`` ->
``encode_stored(message)``, and the marker ``COMPLETE_FIELD``. The prompt stage writes the hash whole, with its
marker, after reading the history; the sink extends it only while it exists. A hash without the marker is a miss.
"""

from typing import Final

from pydantic import TypeAdapter, ValidationError

from schemas.errors import Malformed
from schemas.ports import StoredMessage

COMPLETE_FIELD: Final = "complete"
COMPLETE_VALUE: Final = "1"
SEQ_DIGITS: Final = 20

_STORED: Final = TypeAdapter(StoredMessage)


def field_of(message_seq: int) -> str:
    """The hash field of a message: its sequence in 20 digits, so that fields sort like messages."""
    return f"{message_seq:0{SEQ_DIGITS}d}"


def encode_stored(stored: StoredMessage) -> bytes:
    """The value of a message's field: compact JSON."""
    return _STORED.dump_json(stored, exclude_none=True)


def decode_stored(value: bytes) -> StoredMessage:
    """The message in a field's value. Raises Malformed, without showing the content."""
    try:
        return _STORED.validate_json(value)
    except ValidationError as error:
        raise Malformed(f"hot context: {error.error_count()} fields do not hold what they should") from None
