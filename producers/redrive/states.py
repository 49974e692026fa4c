"""What became of dead letters, from the audit topic. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from producers.audit.trail import BEGUN, DONE
from producers.redrive.letters import Place, parse_place
from schemas.operations import OperatorActed

REDRIVE: Final = "dlq.redrive"
DISCARD: Final = "dlq.discard"
REVEAL: Final = "dlq.reveal"
# Details of these actions.
ORIGIN: Final = "origin"
TURN: Final = "turn"
NEW_TURN: Final = "new_turn"
TOKENS_FROM: Final = "tokens_from"


class LetterState(StrEnum):
    """Whether somebody still has to look at a dead letter."""

    OPEN = "open"
    REDRIVEN = "redriven"
    DISCARDED = "discarded"


@dataclass(frozen=True, slots=True)
class Rebirth:
    """As which turn a letter's turn is asked again; ``tokens_from`` as ``Turn.tokens_from``."""

    turn_id: str
    tokens_from: int


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of the record at one origin. ``rebirth`` is that of the first redrive that was begun, for good."""

    state: LetterState = LetterState.OPEN
    rebirth: Rebirth | None = None
    turn_id: str | None = None
    actor: str | None = None
    reason: str | None = None
    acted_at_ms: int | None = None


UNTOUCHED: Final = Fate()


@dataclass(slots=True)
class Fates:
    """Fates by origin."""

    by_origin: dict[Place, Fate] = field(default_factory=dict)

    def of(self, origin: Place) -> Fate:
        """The fate of the record at ``origin``."""
        return self.by_origin.get(origin, UNTOUCHED)


def fold(actions: Iterable[OperatorActed]) -> Fates:
    """The fates after ``actions``, which are in log order.

    The first redrive that was begun fixes the new turn, whoever begins others; the last action that was done tells
    the state.
    """
    fates = Fates()
    for action in actions:
        origin = _origin(action)
        if origin is not None and action.action in (REDRIVE, DISCARD):
            fates.by_origin[origin] = _after(fates.of(origin), action)
    return fates


def _after(fate: Fate, action: OperatorActed) -> Fate:
    if action.outcome == BEGUN and action.action == REDRIVE and fate.rebirth is None:
        return replace(fate, rebirth=_rebirth(action), turn_id=action.details.get(TURN))
    if action.outcome != DONE:
        return fate
    return replace(
        fate,
        state=LetterState.REDRIVEN if action.action == REDRIVE else LetterState.DISCARDED,
        actor=action.actor,
        reason=action.reason,
        acted_at_ms=action.acted_at_ms,
    )


def _origin(action: OperatorActed) -> Place | None:
    try:
        return parse_place(action.details.get(ORIGIN, ""))
    except ValueError:
        return None


def _rebirth(action: OperatorActed) -> Rebirth | None:
    turn_id, tokens_from = action.details.get(NEW_TURN), action.details.get(TOKENS_FROM, "")
    return Rebirth(turn_id, int(tokens_from)) if turn_id and tokens_from.isdecimal() else None
