"""Which turn a repeated request means, and what to do about how that turn stands. Pure.

The header is that of https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/.
"""

import json
from collections.abc import Sequence
from enum import Enum, auto
from hashlib import blake2b
from typing import Final

from producers.http.refused import RequestRefused
from producers.ingest.turn_request import TurnRequest
from schemas.accounts import Account
from schemas.errors import invalid_request
from schemas.stream_state import StreamState
from schemas.tokens import Cancelled, Failed, Refused

KEY_CHARS_MAX: Final = 255

_SECRET_BYTES: Final = 32
_DIGEST_BYTES: Final = 24
_SECRET: Final = b"ts-idem-key-v1"
_SCOPE: Final = b"ts-idem-scope-v1"
_REQUEST: Final = b"ts-idem-body-v1"


class Standing(Enum):
    """How the turn of a claim stands."""

    UNSEEN = auto()
    """The log knows nothing of it: it is on its way, or whoever claimed it died."""
    ANSWERED = auto()
    """It runs, or it ended with something that a repetition must get as well."""
    EMPTY = auto()
    """It ended without anything that its client was given, or that was billed: a repetition may do better."""


def read_key(idempotency_keys: Sequence[str], request_ids: Sequence[str]) -> str | None:
    """The key of a request by its ``Idempotency-Key`` headers, or else by its ``X-Request-Id``.

    None without either. Raises RequestRefused (400).
    """
    for name, values in (("Idempotency-Key", idempotency_keys), ("X-Request-Id", request_ids)):
        if not values:
            continue
        key = values[0]
        printable = key.isascii() and key.isprintable()
        if len(set(values)) > 1 or not printable or not 0 < len(key) <= KEY_CHARS_MAX:
            raise RequestRefused(
                invalid_request(
                    f"{name} must be one value of 1 to {KEY_CHARS_MAX} printable ASCII characters.",
                    code="invalid_idempotency_key",
                )
            )
        return key
    return None


class KeyHasher:
    """Hashes keys and requests, so that a store of claims holds neither, and nobody can make one up."""

    def __init__(self, pepper: bytes) -> None:
        """``pepper`` is the secret that the edges share."""
        self._secret = blake2b(pepper, digest_size=_SECRET_BYTES, person=_SECRET).digest()

    def scope(self, account: Account, key: str) -> str:
        """What ``key`` of this user is claimed under, in hex: no other user's key has the same."""
        # Lengths before the texts, so that no two owners share a prefix.
        parts = (account.tenant_id, account.user_id, key)
        return self._hash("".join(f"{len(part)}:{part}" for part in parts), _SCOPE)

    def request(self, request: TurnRequest) -> str:
        """What tells ``request`` from others, in hex; blanks and the order of fields do not count."""
        return self._hash(json.dumps(request.model_dump(mode="json"), sort_keys=True), _REQUEST)

    def _hash(self, text: str, purpose: bytes) -> str:
        # A lone surrogate cannot get here: the request was parsed from UTF-8, and json.dumps escapes.
        return blake2b(text.encode(), digest_size=_DIGEST_BYTES, key=self._secret, person=purpose).hexdigest()


def standing_of(state: StreamState) -> Standing:
    """How a turn stands whose records have come to ``state``."""
    terminal = state.terminal
    if terminal is None:
        return Standing.UNSEEN if state.cleared is None else Standing.ANSWERED
    if isinstance(terminal, Refused):
        return Standing.EMPTY
    ended_early = isinstance(terminal, Failed) or (isinstance(terminal, Cancelled) and terminal.reason == "abandoned")
    return Standing.EMPTY if ended_early and state.next_seq == 0 else Standing.ANSWERED
