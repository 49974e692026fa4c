"""Deltas of text and nothing else, to bytes without a model of each: nearly all records of ``chat.tokens.v1`` are such.

The bytes are those that ``schemas.serde.encode`` makes of a ``Delta``; a test holds both to that.
"""

from pydantic_core import to_json


class PlainDeltas:
    """The deltas of one owner's attempt at one turn, of its first choice."""

    __slots__ = ("_lead",)

    def __init__(self, turn_id: str, attempt: int, owner: str) -> None:
        names = to_json(turn_id), attempt, to_json(owner)
        self._lead = b'{"type":"delta","turn_id":%b,"attempt":%d,"owner":%b,"seq":' % names

    def encode(self, seq: int, text: str, tokens: int) -> bytes:
        """The record value of the delta with this sequence."""
        return b'%b%d,"content":%b,"tokens":%d}' % (self._lead, seq, to_json(text), tokens)
