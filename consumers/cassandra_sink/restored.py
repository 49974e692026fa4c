"""What a rebuild writes of one conversation, and what may not be written of it. Pure.

**Times.** A row is written with the log's time, as the sink writes it: where nothing was deleted that changes nothing.
A row that cannot be read afterwards lies under a deletion that no user asked for, and is written again above it, at a
time of the wall clock. Such times leave 3 when divided by 4, which no time of the sink does (``rows.Rank``), so whoever
finds a cell knows which it is. They are taken as early as the deletion allows: what a live turn writes is newer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from consumers.cassandra_sink.rows import (
    ConversationRow,
    MessageRow,
    Rank,
    TitleRow,
    TurnRow,
    conversation_row,
    message_rows,
    turn_row,
)
from consumers.cassandra_sink.titles import title_row
from consumers.cassandra_sink.turns import HeldTurn
from schemas.ids import conversation_time_ms, is_conversation_id
from schemas.tokens import Cleared

# How long before the rebuild the deletion may have been, tried in this order.
MARGINS_MS: Final = (3_600_000, 600_000, 60_000, 5_000, 0)

_RANKS: Final = 4
_ABOVE: Final = 3
_US_PER_MS: Final = 1_000

RowT = TypeVar("RowT", MessageRow, TurnRow, ConversationRow, TitleRow)
Ended = tuple[HeldTurn, Cleared, Rank]


@dataclass(frozen=True, slots=True)
class Deletions:
    """What users deleted of a conversation; times in Unix milliseconds. ``known``: somebody owns the conversation."""

    known: bool = True
    conversation: bool = False
    messages: Mapping[int, int] = field(default_factory=dict)
    turns: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class RestoredRows:
    """Rows of one conversation. ``listed``: the turns that are in their user's list. ``deleted_ms`` by message."""

    messages: tuple[MessageRow, ...] = ()
    turns: tuple[TurnRow, ...] = ()
    listed: tuple[TurnRow, ...] = ()
    conversation: ConversationRow | None = None
    title: TitleRow | None = None
    deleted_ms: Mapping[int, int] = field(default_factory=dict)
    deleted_turns: frozenset[str] = frozenset()

    @property
    def count(self) -> int:
        """How many rows they are."""
        singles = (self.conversation is not None) + (self.title is not None)
        return len(self.messages) + len(self.turns) + len(self.listed) + singles

    def above(self, time_us: int) -> "RestoredRows":
        """The same rows, written not before ``time_us``."""
        return replace(
            self,
            messages=tuple(_raised(row, time_us) for row in self.messages),
            turns=tuple(_raised(row, time_us) for row in self.turns),
            listed=tuple(_raised(row, time_us) for row in self.listed),
            conversation=None if self.conversation is None else _raised(self.conversation, time_us),
            title=None if self.title is None else _raised(self.title, time_us),
        )


def restored_rows(ended: Sequence[Ended], deletions: Deletions) -> RestoredRows:
    """The rows of turns of one conversation, without what users deleted of it."""
    messages = [row for each in ended for row in message_rows(*each)]
    turns = [turn_row(turn, cleared) for turn, cleared, rank in ended if rank is Rank.ENDED]
    titles = [row for _, cleared, _ in ended if (row := title_row(cleared)) is not None]
    return RestoredRows(
        messages=tuple(messages),
        turns=tuple(turns),
        listed=tuple(row for row in turns if row.turn_id not in deletions.turns),
        conversation=max((conversation_row(*each) for each in ended), key=lambda row: row.written_us, default=None),
        title=max(titles, key=lambda row: row.written_us, default=None),
        deleted_ms={
            row.message_seq: deletions.messages[row.message_seq]
            for row in messages
            if row.message_seq in deletions.messages
        },
        deleted_turns=frozenset(row.turn_id for row in turns) & deletions.turns,
    )


def created_at_ms(conversation_id: str, first_ms: int) -> int:
    """When the conversation began, as its id says it, else ``first_ms``; in Unix milliseconds."""
    return conversation_time_ms(conversation_id) if is_conversation_id(conversation_id) else first_ms


def above_us(now_ms: int, margin_ms: int) -> int:
    """The time of rows written above a deletion that is older than ``margin_ms`` before ``now_ms``, in microseconds.

    Always before ``now_ms`` itself: whatever a user deletes from then on wins.
    """
    latest_us = (now_ms - margin_ms) * _US_PER_MS
    return latest_us - latest_us % _RANKS - _RANKS + _ABOVE


def is_above(written_us: int) -> bool:
    """Whether a row of the sink with this time was written by a rebuild, above a deletion."""
    return written_us % _RANKS == _ABOVE


def next_above(written_us: int) -> int:
    """The first such time after ``written_us``."""
    return written_us - written_us % _RANKS + _RANKS + _ABOVE


def _raised(row: RowT, time_us: int) -> RowT:
    return replace(row, written_us=max(row.written_us, time_us))
