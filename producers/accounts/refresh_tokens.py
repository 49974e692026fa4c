"""Refresh tokens: ``tsr-<session>-<secret>-<proof>``, opaque to clients, kept as a hash, good for one use.

The proof says that we made the token, so that of two tokens of a session the one that is not the present one can be
told from a guess: it was used before, or stolen.
"""

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import Final

SESSION_ENTROPY_BYTES: Final = 15
SECRET_ENTROPY_BYTES: Final = 20

_PROOF_BYTES: Final = 15
_SHAPE: Final = re.compile(r"tsr-([a-z2-7]{24})-[a-z2-7]{32}-([a-z2-7]{24})")


@dataclass(frozen=True, slots=True, repr=False)
class RefreshToken:
    """A token that we made. Its text never shows in a repr; ``kept`` is what a store may have of it."""

    session_id: str
    text: str
    kept: str

    def __repr__(self) -> str:
        return f"RefreshToken({self.session_id})"


class RefreshTokens:
    """Makes tokens and recognises its own. ``pepper`` is the server's secret."""

    def __init__(self, pepper: bytes, session_prefix: str) -> None:
        self._key = hmac.new(pepper, b"turnstream refresh tokens v1", hashlib.sha256).digest()
        self._session_prefix = session_prefix

    def make(self, session_id: str, entropy: bytes) -> RefreshToken:
        """A new token of ``session_id`` from exactly 20 random bytes."""
        if len(entropy) != SECRET_ENTROPY_BYTES:
            raise ValueError(f"a refresh token takes {SECRET_ENTROPY_BYTES} bytes of entropy, not {len(entropy)}")
        signed = f"tsr-{session_id.removeprefix(self._session_prefix)}-{base32(entropy)}"
        return self._token(session_id, f"{signed}-{self._proof(signed)}")

    def parse(self, text: str) -> RefreshToken | None:
        """The token in ``text``, or None when we did not make it. Whether it is still good the store knows."""
        match = _SHAPE.fullmatch(text)
        if match is None:
            return None
        signed, _, proof = text.rpartition("-")
        if not hmac.compare_digest(proof, self._proof(signed)):
            return None
        return self._token(self._session_prefix + match[1], text)

    def _token(self, session_id: str, text: str) -> RefreshToken:
        return RefreshToken(session_id, text, self._mac(b"kept", text).hex())

    def _proof(self, signed: str) -> str:
        return base32(self._mac(b"proof", signed)[:_PROOF_BYTES])

    def _mac(self, purpose: bytes, text: str) -> bytes:
        return hmac.new(self._key, purpose + b"\0" + text.encode(), hashlib.sha256).digest()


def base32(raw: bytes) -> str:
    """Lower-case base 32 (RFC 4648) of bytes whose number is a multiple of five."""
    return base64.b32encode(raw).decode().lower()
