"""API keys: ``ts-<key id>-<secret>-<checksum>``, lower-case base 32 (RFC 4648) in three parts.

The key id (80 bits) names the key in lists and on usage records; the secret (160 bits) proves it; the
checksum (30 bits of SHA-256) lets the edge turn away typos and guesses without asking any store.
"""

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import Final

KEY_ENTROPY_BYTES: Final = 30
KEY_CHARS: Final = 59

_KEY_ID_BYTES: Final = 10
_CHECKSUM_CHARS: Final = 6
# Base 32 takes five bytes for eight characters.
_CHECKSUM_BYTES: Final = 5
_SHAPE: Final = re.compile(r"ts-([a-z2-7]{16})-([a-z2-7]{32})-([a-z2-7]{6})")
_SCHEME: Final = "bearer"


@dataclass(frozen=True, slots=True, repr=False)
class ApiKey:
    """A well-formed key. Its text never shows in a repr."""

    key_id: str
    text: str

    def __repr__(self) -> str:
        return f"ApiKey({self.key_id})"


def make_api_key(entropy: bytes) -> ApiKey:
    """A new key from exactly 30 random bytes. Raises ValueError for another length."""
    if len(entropy) != KEY_ENTROPY_BYTES:
        raise ValueError(f"an API key takes {KEY_ENTROPY_BYTES} bytes of entropy, not {len(entropy)}")
    key_id = _base32(entropy[:_KEY_ID_BYTES])
    signed = f"ts-{key_id}-{_base32(entropy[_KEY_ID_BYTES:])}"
    return ApiKey(key_id=key_id, text=f"{signed}-{_checksum(signed)}")


def parse_api_key(text: str) -> ApiKey | None:
    """The key in ``text``, or None when its form or its checksum is wrong. Proves nothing about its owner."""
    match = _SHAPE.fullmatch(text)
    if match is None:
        return None
    signed, _, checksum = text.rpartition("-")
    if not hmac.compare_digest(checksum, _checksum(signed)):
        return None
    return ApiKey(key_id=match[1], text=text)


def bearer_token(authorization: str) -> str | None:
    """The token of an ``Authorization: Bearer`` header (RFC 6750), or None for another scheme."""
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == _SCHEME else None


def key_hash(key: ApiKey, pepper: bytes) -> str:
    """What stands for the key on the log and in stores: HMAC-SHA-256 under the server's pepper, in hex."""
    return hmac.digest(pepper, key.text.encode(), "sha256").hex()


def _base32(raw: bytes) -> str:
    return base64.b32encode(raw).decode().lower()


def _checksum(signed: str) -> str:
    return _base32(hashlib.sha256(signed.encode()).digest()[:_CHECKSUM_BYTES])[:_CHECKSUM_CHARS]
