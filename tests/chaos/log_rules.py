"""What the records of a turn mean, by the rules as they are written down, in code of its own.

The checker must not share the reducer that it checks: an error in that would hide itself.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tests.support.topic_scan import LogRecord

TOKENS: Final = "chat.tokens.v1"
ENDS: Final = ("refused", "finished", "failed", "cancelled")


@dataclass
class Told:
    """What the log tells of one turn. ``pieces``: the text that counts; times are record timestamps in ms."""

    conversation: str | None = None
    message_seq: int | None = None
    stored: bool = False
    fence: tuple[int, str] | None = None
    pieces: list[str] = field(default_factory=list)
    tokens: int = 0
    terminal: Mapping[str, Any] | None = None
    persisted: bool = False
    began_ms: int | None = None
    ended_ms: int | None = None

    @property
    def text(self) -> str:
        """The answer."""
        return "".join(self.pieces)

    @property
    def ending(self) -> str | None:
        """The type of its terminal."""
        return None if self.terminal is None else str(self.terminal["type"])

    @property
    def generated(self) -> int:
        """Pieces that somebody must pay for: none of a turn that never got to a GPU."""
        return len(self.pieces)


def fold_turns(records: Iterable[LogRecord]) -> dict[str, Told]:
    """Every turn on the tokens topic, by its id."""
    turns: dict[str, Told] = {}
    for record in records:
        if record.topic != TOKENS or record.key is None:
            continue
        event = json.loads(record.value)
        if event["type"] not in {"probed", "attached"}:
            _tell(turns.setdefault(record.key.decode(), Told()), event, record.timestamp_ms)
    return turns


def _tell(turn: Told, event: Mapping[str, Any], at_ms: int) -> None:
    kind = event["type"]
    if kind == "persisted":
        turn.persisted = turn.persisted or turn.terminal is not None
        return
    if turn.terminal is not None:
        return
    if kind == "cleared" and turn.conversation is None:
        turn.conversation, turn.message_seq = event["conversation_id"], event["message_seq"]
        turn.stored = event["stored"]
    elif kind == "attempt_started" and (turn.fence is None or event["attempt"] > turn.fence[0]):
        turn.fence = (event["attempt"], event["owner"])
        turn.began_ms = turn.began_ms or at_ms
    elif kind == "delta" and _is_next(turn, event):
        turn.pieces.append(event["content"])
        turn.tokens += event["tokens"]
    elif kind in ENDS and _may_end(turn, event):
        turn.terminal, turn.ended_ms = event, at_ms


def _is_next(turn: Told, event: Mapping[str, Any]) -> bool:
    return turn.fence == (event["attempt"], event["owner"]) and event["seq"] == len(turn.pieces)


def _may_end(turn: Told, event: Mapping[str, Any]) -> bool:
    kind = event["type"]
    if kind == "finished":
        return _is_next(turn, event)
    if kind == "failed":
        return event.get("attempt") is None or turn.fence == (event["attempt"], event["owner"])
    return kind == "cancelled" or turn.conversation is None
