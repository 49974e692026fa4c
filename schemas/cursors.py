"""Resume cursors: where a client stands in an answer, in a form that it cannot make up.

A cursor is ``<seq>.<offset>.<mac>``: the sequence of the last delta that the client has (or the number of deltas, once
it has the end), the offset of that record in the turn's tokens partition, and a keyed BLAKE2b (RFC 7693) of both with
the turn and its owner, 96 bits in base64url. Whoever holds a cursor of somebody else, or alters one, holds nothing.
"""

import hmac
import re
from base64 import urlsafe_b64encode
from hashlib import blake2b
from typing import Final, NamedTuple

MAC_BYTES: Final = 12
CURSOR_CHARS_MAX: Final = 64

_KEY_BYTES: Final = 32
_PERSON: Final = b"ts-cursor-v1"
_FORM: Final = re.compile(r"(0|[1-9][0-9]{0,9})\.(0|[1-9][0-9]{0,18})\.([A-Za-z0-9_-]{16})", re.ASCII)


class Cursor(NamedTuple):
    """A place in an answer: ``seq`` as in ``schemas.tokens.Delta``, ``offset`` of its record."""

    seq: int
    offset: int


def cursor_key(pepper: bytes) -> bytes:
    """The key of all cursors, from the secret that the edges share."""
    return blake2b(pepper, digest_size=_KEY_BYTES, person=_PERSON).digest()


class CursorSigner:
    """Makes and checks the cursors of one turn, for its owner alone."""

    __slots__ = ("_mac",)

    def __init__(self, key: bytes, turn_id: str, tenant_id: str, user_id: str) -> None:
        """``key`` is ``cursor_key``'s."""
        # Lengths before the texts, so that no two owners share a prefix.
        owner = f"{len(tenant_id)}:{tenant_id}{len(user_id)}:{user_id}{turn_id}".encode()
        self._mac = blake2b(owner, key=key, digest_size=MAC_BYTES)

    def sign(self, seq: int, offset: int) -> str:
        """The cursor that names this place."""
        place = f"{seq}.{offset}."
        return place + self._sign(place)

    def verify(self, text: str) -> Cursor | None:
        """The place that ``text`` names, or None when this owner was never given it."""
        form = _FORM.fullmatch(text) if len(text) <= CURSOR_CHARS_MAX else None
        if form is None:
            return None
        seq, offset, mac = form.groups()
        if not hmac.compare_digest(mac, self._sign(f"{seq}.{offset}.")):
            return None
        return Cursor(int(seq), int(offset))

    def _sign(self, place: str) -> str:
        mac = self._mac.copy()
        mac.update(place.encode())
        return urlsafe_b64encode(mac.digest()).decode()
