"""Server-sent events of the two streaming routes, from bytes to operations. Pure."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final

from tests.faults.operations import Event

_SEPARATOR: Final = b"\n\n"
_DIGEST_BYTES: Final = 8


@dataclass
class FrameReader:
    """Cuts a body into frames, however its bytes arrive. ``told`` says that the last frame asks to come back."""

    told: bool = False
    _rest: bytes = field(default=b"", repr=False)

    def feed(self, data: bytes) -> Iterator[tuple[Event, dict[str, Any]]]:
        """The events of the frames that ``data`` completes. Raises ValueError for what is no JSON."""
        *frames, self._rest = (self._rest + data).split(_SEPARATOR)
        for frame in frames:
            lines = frame.split(b"\n")
            self.told = any(line.startswith(b"retry:") for line in lines)
            payload = next((line[6:] for line in lines if line.startswith(b"data: ")), None)
            if payload is not None:
                yield from _events(payload)


def _events(payload: bytes) -> Iterator[tuple[Event, dict[str, Any]]]:
    if payload == b"[DONE]":
        yield Event.DONE, {}
        return
    chunk = json.loads(payload)
    if "error" in chunk:
        yield Event.ERROR, {"code": chunk["error"].get("code") or "none"}
        return
    placed = {"cursor": chunk.get("cursor"), "digest": blake2b(payload, digest_size=_DIGEST_BYTES).hexdigest()}
    for choice in chunk.get("choices", ()):
        if choice["delta"].get("content"):
            yield Event.PIECE, {**placed, "text": choice["delta"]["content"]}
        if choice["finish_reason"]:
            yield (
                Event.FINISH,
                {**placed, "finish_reason": choice["finish_reason"], "cancelled": chunk.get("cancelled")},
            )
