"""The operation log: what clients and the injector did and saw, one JSON line each. It interprets nothing."""

import threading
import time
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import IO, Any, Self

from pydantic import BaseModel, ConfigDict


class Event(StrEnum):
    """What happened. A *request* is one connection; a *reader* is one view of a turn, over all its connections."""

    INVOKE = "invoke"
    """A reader begins to ask for a turn: ``prompt``, ``key``, ``stored``, ``stream`` say what it wants."""
    REQUEST = "request"
    """A connection is opened: ``edge``, ``action``, and the ``cursor`` it goes on from."""
    HEAD = "head"
    """The head of a response: ``status``, ids, ``code`` of the error object."""
    PIECE = "piece"
    """A chunk with text and its cursor; ``digest`` is of the whole data line."""
    WHOLE = "whole"
    """A whole answer: its text and finish reason."""
    FINISH = "finish"
    """The chunk with the finish reason."""
    DONE = "done"
    """``[DONE]``."""
    ERROR = "error"
    """An error frame in a stream: ``code``."""
    ENDED = "ended"
    """A stream ended in order but without ``[DONE]`` or error; ``told`` when it said to come back."""
    LOST = "lost"
    """The connection broke, or could not be made."""
    CUT = "cut"
    """The client itself hung up, after ``size`` bytes of the body."""
    HISTORY = "history"
    """A read of a conversation: ``items``."""
    OK = "ok"
    FAIL = "fail"
    UNKNOWN = "unknown"
    FAULT = "fault"
    """The injector did ``fault`` to ``target``."""
    HEALED = "healed"
    """The target of a fault serves again."""


class Action(StrEnum):
    """What a connection asks for."""

    POST = "post"
    RESUME = "resume"
    CANCEL = "cancel"
    HISTORY = "history"


class Item(BaseModel):
    """One message as the history endpoint told it."""

    model_config = ConfigDict(frozen=True)

    seq: int
    role: str
    status: str
    turn_id: str
    text: str


class Operation(BaseModel):
    """One line. ``mono_s`` orders the lines of a run; ``wall_ms`` compares with the clocks of records."""

    model_config = ConfigDict(frozen=True)

    event: Event
    mono_s: float = 0.0
    wall_ms: int = 0
    client: int | None = None
    reader: str | None = None
    request: str | None = None
    action: Action | None = None
    edge: str | None = None
    key: str | None = None
    prompt: str | None = None
    stored: bool | None = None
    stream: bool | None = None
    cursor: str | None = None
    status: int | None = None
    code: str | None = None
    turn_id: str | None = None
    active_turn_id: str | None = None
    conversation_id: str | None = None
    text: str | None = None
    digest: str | None = None
    finish_reason: str | None = None
    cancelled: str | None = None
    told: bool | None = None
    size: int | None = None
    items: tuple[Item, ...] | None = None
    fault: str | None = None
    target: str | None = None
    seconds: float | None = None

    @property
    def seq(self) -> int | None:
        """The place that ``cursor`` names; None without one."""
        return None if self.cursor is None else int(self.cursor.partition(".")[0])


class OperationLog:
    """Writes operations to a file as they happen, and keeps them. Safe for several threads."""

    def __init__(self, path: Path) -> None:
        self._file: IO[str] = path.open("w", encoding="utf-8")
        self._lock = threading.Lock()
        self.operations: list[Operation] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def note(self, event: Event, **what: Any) -> Operation:
        """Write one line with the present times."""
        operation = Operation(event=event, mono_s=time.monotonic(), wall_ms=time.time_ns() // 1_000_000, **what)
        with self._lock:
            self.operations.append(operation)
            self._file.write(operation.model_dump_json(exclude_none=True) + "\n")
        return operation


def read_operations(lines: Iterable[str]) -> Iterator[Operation]:
    """The operations of a log file. Raises ValidationError for a line that is none."""
    return (Operation.model_validate_json(line) for line in lines if line.strip())
