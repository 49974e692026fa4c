"""Reading a server-sent event stream that may break off at any byte."""

import json
from collections.abc import Iterator
from typing import Any

Frame = dict[str, Any]
DONE_DATA = b"[DONE]"


class FrameParser:
    """Bytes in, frames out: each the JSON of one ``data:`` line, or an empty one for ``[DONE]``."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that end in ``data``."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if not line.startswith(b"data: "):
                continue
            content = line.removeprefix(b"data: ")
            yield {} if content == DONE_DATA else json.loads(content)


def cursor_seq(cursor: str) -> int:
    """The sequence in a cursor: of the delta that it stands behind, or the number of all."""
    return int(cursor.split(".", 1)[0])
