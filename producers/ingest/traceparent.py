"""W3C Trace Context (https://www.w3.org/TR/trace-context/): the ``traceparent`` of a turn."""

import re
from typing import Final

TRACE_ENTROPY_BYTES: Final = 24

_SHAPE: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_TRACE_ID_BYTES: Final = 16
_VERSION_INVALID: Final = "ff"
_VERSION_KNOWN: Final = "00"


def accept_traceparent(text: str | None, entropy: bytes) -> str:
    """The client's ``traceparent`` in version 00 if it is valid, else a new sampled one.

    ``entropy`` is exactly 24 random bytes: 16 of trace id, 8 of parent id.
    """
    return _parse(text or "") or _make(entropy)


def _parse(text: str) -> str | None:
    match = _SHAPE.fullmatch(text)
    if match is None:
        return None
    version, trace_id, parent_id, flags, rest = match.groups()
    # A version above 00 may carry more fields; what it shares with 00 is read as 00.
    if version == _VERSION_INVALID or (version == _VERSION_KNOWN and rest):
        return None
    if not int(trace_id, 16) or not int(parent_id, 16):
        return None
    return f"{_VERSION_KNOWN}-{trace_id}-{parent_id}-{flags}"


def _make(entropy: bytes) -> str:
    if len(entropy) != TRACE_ENTROPY_BYTES:
        raise ValueError(f"a traceparent takes {TRACE_ENTROPY_BYTES} bytes of entropy, not {len(entropy)}")
    return f"{_VERSION_KNOWN}-{entropy[:_TRACE_ID_BYTES].hex()}-{entropy[_TRACE_ID_BYTES:].hex()}-01"
