"""What the log says of one turn: the rules of the fence once more, from the design and not from the code.

It works on plain JSON and keeps books instead of states, so that it shares no mistake with ``schemas.stream_state``.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tests.faults.dump import LogEntry

TERMINALS: Final = frozenset({"finished", "failed", "refused", "cancelled"})


@dataclass
class LoggedTurn:
    """A turn by its records that count. ``pieces`` are (text, tokens) by ``seq``; times are of records, Unix ms."""

    turn_id: str
    cleared: Mapping[str, Any] | None = None
    pieces: list[tuple[str, int]] = field(default_factory=list)
    worked_at_ms: list[int] = field(default_factory=list)
    writer: tuple[int, str | None] = (0, None)
    terminal: Mapping[str, Any] | None = None
    ended_at_ms: int = 0
    persisted: bool = False

    @property
    def text(self) -> str:
        """The answer as the log has it."""
        return "".join(text for text, _ in self.pieces)

    @property
    def tokens(self) -> int:
        """Completion tokens of all pieces."""
        return sum(tokens for _, tokens in self.pieces)

    @property
    def ended(self) -> str | None:
        """The type of the terminal."""
        return None if self.terminal is None else str(self.terminal["type"])

    @property
    def finish_reason(self) -> str | None:
        """Of a finished turn."""
        return None if self.terminal is None else self.terminal.get("finish_reason")

    @property
    def stored(self) -> bool:
        """Whether its messages are kept."""
        return self.cleared is not None and bool(self.cleared["stored"])

    @property
    def conversation_id(self) -> str | None:
        """Of a cleared turn."""
        return None if self.cleared is None else str(self.cleared["conversation_id"])

    @property
    def message_seq(self) -> int:
        """Of a cleared turn; -1 before."""
        return -1 if self.cleared is None else int(self.cleared["message_seq"])

    @property
    def answered(self) -> bool:
        """Whether somebody was given anything of an answer."""
        return bool(self.pieces) or self.ended == "finished"

    @property
    def empty(self) -> bool:
        """Whether a repetition of its request may be another turn."""
        if self.ended == "refused":
            return True
        abandoned = self.ended == "cancelled" and self.terminal is not None and self.terminal["reason"] == "abandoned"
        return not self.pieces and (self.ended == "failed" or abandoned)


def fold_turns(entries: Iterable[LogEntry]) -> dict[str, LoggedTurn]:
    """Every turn of the tokens topic's records, which are in the order of their partitions."""
    turns: dict[str, LoggedTurn] = {}
    for entry in entries:
        turn_id = entry.value.get("turn_id")
        if turn_id is not None:
            _book(turns.setdefault(turn_id, LoggedTurn(turn_id)), entry)
    return turns


def _book(turn: LoggedTurn, entry: LogEntry) -> None:
    event, kind = entry.value, entry.value["type"]
    if turn.terminal is not None:
        turn.persisted = turn.persisted or kind == "persisted"
    elif kind in TERMINALS:
        if _may_end(turn, event):
            turn.terminal, turn.ended_at_ms = event, entry.timestamp_ms
    elif kind == "cleared":
        turn.cleared = turn.cleared or event
    elif kind == "attempt_started" and event["attempt"] > turn.writer[0]:
        turn.writer = (event["attempt"], event["owner"])
        turn.worked_at_ms.append(entry.timestamp_ms)
    elif kind == "delta" and _writes_next(turn, event):
        turn.pieces.append((event["content"], event["tokens"]))
        turn.worked_at_ms.append(entry.timestamp_ms)


def _may_end(turn: LoggedTurn, event: Mapping[str, Any]) -> bool:
    kind = event["type"]
    if kind == "refused":
        return turn.cleared is None
    if kind == "finished":
        return _writes_next(turn, event)
    if kind == "failed":
        return event.get("attempt") is None or (event["attempt"], event.get("owner")) == turn.writer
    return True


def _writes_next(turn: LoggedTurn, event: Mapping[str, Any]) -> bool:
    return (event["attempt"], event["owner"]) == turn.writer and event["seq"] == len(turn.pieces)
