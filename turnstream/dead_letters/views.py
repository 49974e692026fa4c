"""Dead letters as commands show them. Pure."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ConfigDict

from producers.redrive.letters import Letter
from producers.redrive.states import Fate
from turnstream.dead_letters.sealing import sealed_headers, sealed_key, sealed_value


class LetterRow(BaseModel):
    """One letter in a list. ``buried_at_ms`` in Unix milliseconds, ``bytes`` of the value."""

    model_config = ConfigDict(frozen=True)

    place: str
    origin: str
    topic: str
    stage: str
    cause: str
    state: str
    turn_id: str | None
    new_turn_id: str | None
    bytes: int
    buried_at_ms: int


class LetterCount(BaseModel):
    """How many letters there are of one topic, stage, cause and state, and when the first and the last was buried."""

    model_config = ConfigDict(frozen=True)

    topic: str
    stage: str
    cause: str
    state: str
    letters: int
    first_ms: int
    last_ms: int


class LetterView(LetterRow):
    """One letter whole. ``value`` is sealed, or the record as it was (as text) when it is revealed."""

    key: str
    headers: dict[str, str]
    value: Any
    revealed: bool = False
    state_actor: str | None = None
    state_reason: str | None = None
    state_at_ms: int | None = None


def row_of(letter: Letter, fate: Fate) -> LetterRow:
    """``letter`` in a list."""
    return LetterRow(
        place=str(letter.place),
        origin=str(letter.origin),
        topic=letter.topic.name,
        stage=letter.stage,
        cause=letter.cause,
        state=fate.state.value,
        turn_id=letter.turn_id,
        new_turn_id=None if fate.rebirth is None else fate.rebirth.turn_id,
        bytes=len(letter.record.value),
        buried_at_ms=letter.buried_at_ms,
    )


def view_of(letter: Letter, fate: Fate, *, revealed: bool) -> LetterView:
    """``letter`` whole."""
    record = letter.record
    return LetterView(
        **row_of(letter, fate).model_dump(),
        key=sealed_key(record.key),
        headers=sealed_headers(record.headers),
        value=record.value.decode("utf-8", "replace") if revealed else sealed_value(record.value),
        revealed=revealed,
        state_actor=fate.actor,
        state_reason=fate.reason,
        state_at_ms=fate.acted_at_ms,
    )


def count_rows(rows: Iterable[LetterRow]) -> list[LetterCount]:
    """The letters by topic, stage, cause and state, most frequent first."""
    counts: Counter[tuple[str, str, str, str]] = Counter()
    first: dict[tuple[str, str, str, str], int] = {}
    last: dict[tuple[str, str, str, str], int] = {}
    for row in rows:
        group = (row.topic, row.stage, row.cause, row.state)
        counts[group] += 1
        first[group] = min(first.get(group, row.buried_at_ms), row.buried_at_ms)
        last[group] = max(last.get(group, row.buried_at_ms), row.buried_at_ms)
    return [
        LetterCount(
            topic=group[0],
            stage=group[1],
            cause=group[2],
            state=group[3],
            letters=letters,
            first_ms=first[group],
            last_ms=last[group],
        )
        for group, letters in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    ]
