"""Deltas of text and nothing else, to bytes and back without a model: nearly all records of the tokens topic are such.

The bytes are those that ``schemas.serde.encode`` makes of a ``Delta``, and what is read of them is what
``schemas.serde.decode_token`` reads: tests hold both to that.
"""

from typing import NamedTuple

from pydantic_core import to_json


class PlainDelta(NamedTuple):
    """A ``schemas.tokens.Delta`` of text, for whoever knows its turn and owner."""

    text: str
    seq: int


class PlainDeltas:
    """The deltas of one owner's attempt at one turn, of its first choice."""

    __slots__ = ("_lead",)

    def __init__(self, turn_id: str, attempt: int, owner: str) -> None:
        names = to_json(turn_id), attempt, to_json(owner)
        self._lead = b'{"type":"delta","turn_id":%b,"attempt":%d,"owner":%b,"seq":' % names

    def encode(self, seq: int, text: str, tokens: int) -> bytes:
        """The record value of the delta with this sequence."""
        return b'%b%d,"content":%b,"tokens":%d}' % (self._lead, seq, to_json(text), tokens)

    def decode(self, value: bytes, seq: int) -> PlainDelta | None:
        """The delta with this sequence in ``value``; None for all that is not written so, or has an escape in it."""
        opening = b'%b%d,"content":"' % (self._lead, seq)
        if not value.startswith(opening):
            return None
        content, _, tokens = value[len(opening) :].partition(b'","tokens":')
        if b"\\" in content or not _closes(tokens):
            return None
        try:
            text = content.decode()
        except UnicodeDecodeError:
            return None
        # JSON has no control characters in its strings.
        return PlainDelta(text, seq) if text.isprintable() else None


def _closes(tokens: bytes) -> bool:
    """Whether this is a number and the end of an object."""
    digits = tokens[:-1]
    return tokens.endswith(b"}") and digits.isdigit() and (digits[:1] != b"0" or len(digits) == 1)
