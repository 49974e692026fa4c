"""What clients did and saw, one line each, without judgement: all that the checker knows of them."""

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Final

ASK: Final = "ask"
"""A turn is wanted: key, prompt, stored, conversation (a client's own name for it), tokens."""
INVOKE: Final = "invoke"
"""A request leaves: what, edge, after (the last piece that the client has)."""
HEAD: Final = "head"
"""A response begins: status, id (of the turn, if it is one), code, replayed, active (the turn of a 409)."""
PIECE: Final = "piece"
"""A piece of the answer: id, seq, text."""
WHOLE: Final = "whole"
"""The answer in one: id, text, finish."""
FINISH: Final = "finish"
"""The frame with the finish reason: id, reason, pieces, cancelled."""
DONE: Final = "done"
"""The stream is complete, it said."""
ERROR: Final = "error"
"""The stream ended with an error frame: code."""
LOST: Final = "lost"
"""The connection broke: error."""
LEFT: Final = "left"
"""The client hung up on purpose."""
HISTORY: Final = "history"
"""The items of the conversation, after the client saw the end of the answer."""
OUTCOME: Final = "outcome"
"""How the client takes the turn to have ended: done, refused, busy, "failed <code>" or unknown."""


@dataclass(frozen=True)
class Operation:
    """One line. ``reader`` names one connection; ``turn`` is the number of the plan, with ``r`` for its rival."""

    at_s: float
    client: int
    turn: str
    reader: str
    event: str
    data: dict[str, Any] = field(default_factory=dict)


class OperationLog:
    """Appends lines to a file, and keeps them."""

    def __init__(self, file: IO[str] | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.operations: list[Operation] = []
        self._file = file
        self._clock = clock

    def note(self, client: int, turn: str, reader: str, event: str, **data: Any) -> None:
        """Write one line, now."""
        operation = Operation(round(self._clock(), 4), client, turn, reader, event, data)
        self.operations.append(operation)
        if self._file is not None:
            self._file.write(json.dumps(asdict(operation), ensure_ascii=False) + "\n")


def read_operations(path: Path) -> Sequence[Operation]:
    """The operations of a file that ``OperationLog`` wrote."""
    return tuple(_parse(path.read_text(encoding="utf-8").splitlines()))


def _parse(lines: Iterable[str]) -> Iterable[Operation]:
    return (Operation(**json.loads(line)) for line in lines)
