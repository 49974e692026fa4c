"""What is left of a run in the stores, as plain data: the checker reads this and the operation log, nothing else."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final, TypeVar


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A record of a topic with its JSON value; ``timestamp_ms`` is its producer's clock."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    value: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class MessageDump:
    """A row of ``messages``."""

    conversation_id: str
    message_seq: int
    turn_id: str
    role: str
    content: str
    status: str


@dataclass(frozen=True, slots=True)
class TurnDump:
    """A row of ``turns``."""

    turn_id: str
    conversation_id: str
    answer_seq: int
    finish_reason: str


@dataclass(frozen=True, slots=True)
class ConversationDump:
    """A row of ``conversations``."""

    conversation_id: str
    last_turn_id: str


Row = LogEntry | MessageDump | TurnDump | ConversationDump


@dataclass(frozen=True, slots=True)
class Dump:
    """The topics, in the order of each partition, and the tables."""

    entries: tuple[LogEntry, ...] = ()
    messages: tuple[MessageDump, ...] = ()
    turns: tuple[TurnDump, ...] = ()
    conversations: tuple[ConversationDump, ...] = ()


_KINDS: Final[Mapping[str, type[Row]]] = {
    "entries": LogEntry,
    "messages": MessageDump,
    "turns": TurnDump,
    "conversations": ConversationDump,
}
_RowT = TypeVar("_RowT", bound=Row)


def write_dump(path: Path, dump: Dump) -> None:
    """Write ``dump`` as JSON lines."""
    with path.open("w", encoding="utf-8") as file:
        for field in fields(dump):
            file.writelines(
                json.dumps({"in": field.name, **asdict(row)}, ensure_ascii=False) + "\n"
                for row in getattr(dump, field.name)
            )


def read_dump(lines: Iterable[str]) -> Dump:
    """What ``write_dump`` wrote. Raises KeyError or TypeError for anything else."""
    rows: list[Row] = []
    for line in lines:
        values = json.loads(line)
        rows.append(_KINDS[values.pop("in")](**values))
    return Dump(_of(rows, LogEntry), _of(rows, MessageDump), _of(rows, TurnDump), _of(rows, ConversationDump))


def _of(rows: list[Row], kind: type[_RowT]) -> tuple[_RowT, ...]:
    return tuple(row for row in rows if isinstance(row, kind))
