"""What an operator asks of a redrive, its limits, and what came of it."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from producers.redrive.letters import Letter, Place
from producers.redrive.mending import Mending
from producers.redrive.states import LetterState

ALREADY: Final = "it was redriven before; --again asks the same turn once more"
DISCARDED: Final = "it was discarded; --again redrives it all the same"
DELETED: Final = "its conversation was deleted, or is somebody else's"
UNFINISHED: Final = "the turn before it in its conversation has not ended yet"


class RedriveSettings(BaseModel):
    """Limits of a redrive."""

    model_config = ConfigDict(frozen=True)

    batch_letters_max: int = Field(default=100, ge=1, description="Begun at once, before their records are appended.")
    allowance_seconds_max: int = Field(
        default=600, ge=1, description="A turn gets as much time again as it had, and never more than this."
    )
    settle_seconds_max: float = Field(
        default=120, gt=0, description="How long a turn waits for the one before it in its conversation."
    )
    unseen_seconds_max: float = Field(
        default=30, ge=0, description="After so long a turn of which the log knows nothing keeps nobody waiting."
    )
    settle_poll_seconds: float = Field(default=0.2, gt=0)


@dataclass(frozen=True, slots=True)
class Redriven:
    """One letter that went back. ``new_turn_id`` is None for what went back unchanged."""

    place: Place
    turn_id: str | None
    new_turn_id: str | None
    appended: bool


@dataclass(slots=True)
class RedriveSummary:
    """What became of the letters of a run.

    ``closed``: letters about which something was done before. ``obstacles``: letters that cannot go back now. Both are
    counted by the reason.
    """

    letters: int = 0
    redriven: list[Redriven] = field(default_factory=list)
    closed: Counter[str] = field(default_factory=Counter)
    obstacles: Counter[str] = field(default_factory=Counter)
    first_obstacles: dict[str, Place] = field(default_factory=dict)

    def stays(self, letter: Letter, reason: str) -> None:
        """Note that ``letter`` stays where it is."""
        self.obstacles[reason] += 1
        self.first_obstacles.setdefault(reason, letter.place)


@dataclass(frozen=True, slots=True)
class RedriveRequest:
    """What an operator asks: the same ``mending`` for all letters; ``again`` also takes those that are not open."""

    mending: Mending
    reason: str | None = None
    again: bool = False


def passed_over(state: LetterState) -> str:
    """Why a letter in this ``state``, which is not open, is passed over."""
    return ALREADY if state is LetterState.REDRIVEN else DISCARDED
