"""Which faults happen when, from the seed alone. Pure.

When is told in turns, not in seconds, so that a seed means the same on any machine.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

REPLICAS: Final = 2
LONG_STOP_SECONDS: Final = 8.0
SHORT_STOP_SECONDS: Final = (0.3, 2.0)
# Of the turns, at the beginning and at the end: the load begins and ends in peace.
QUIET_SHARE: Final = 0.02


class Kind(Enum):
    """What is done to a process."""

    KILL = "kill -9"
    STOP_SHORT = "SIGSTOP, short"
    STOP_LONG = "SIGSTOP, beyond the session"
    TERM = "SIGTERM"
    FLUSH = "FLUSHALL"


@dataclass(frozen=True)
class Fault:
    """Something that happens once ``after_turns`` turns have begun. ``seconds``: how long a stop lasts."""

    after_turns: int
    kind: Kind
    target: str
    seconds: float = 0.0


# Shares, not probabilities: a schedule of enough faults has all of them.
PROCESS_SHARES: Final[Mapping[tuple[str, Kind], int]] = {
    ("edge", Kind.KILL): 14,
    ("edge", Kind.STOP_SHORT): 6,
    ("edge", Kind.TERM): 5,
    ("processors", Kind.KILL): 14,
    ("processors", Kind.STOP_SHORT): 6,
    ("processors", Kind.STOP_LONG): 1,
    ("processors", Kind.TERM): 4,
    ("inference", Kind.KILL): 18,
    ("inference", Kind.STOP_SHORT): 8,
    ("inference", Kind.STOP_LONG): 2,
    ("inference", Kind.TERM): 5,
    ("sink", Kind.KILL): 12,
    ("sink", Kind.STOP_SHORT): 5,
    ("sink", Kind.STOP_LONG): 1,
    ("sink", Kind.TERM): 4,
    ("windows", Kind.KILL): 2,
}
SERVER_SHARES: Final[Mapping[tuple[str, Kind], int]] = {
    ("redis", Kind.KILL): 4,
    ("redis", Kind.STOP_SHORT): 3,
    ("redis", Kind.FLUSH): 4,
    ("triton", Kind.KILL): 3,
    ("triton", Kind.STOP_SHORT): 2,
    ("kafka", Kind.KILL): 2,
    ("kafka", Kind.STOP_SHORT): 2,
    ("cassandra", Kind.KILL): 1,
    ("cassandra", Kind.STOP_SHORT): 2,
}
SERVERS: Final = frozenset(target for target, _ in SERVER_SHARES)


def make_schedule(seed: int, turns: int, faults: int) -> Sequence[Fault]:
    """``faults`` faults, in order, spread over ``turns`` turns; the same for the same arguments."""
    dice = random.Random(f"faults {seed} {turns} {faults}")
    kinds = _dealt(dice, faults)
    quiet = round(turns * QUIET_SHARE)
    times = sorted(dice.randint(quiet, max(quiet, turns - quiet)) for _ in kinds)
    return [_fault(dice, after, *kind) for after, kind in zip(times, kinds, strict=True)]


def family(part: str) -> str:
    """The kind of process of a part: ``edge`` of ``edge-2``."""
    return part.partition("-")[0]


def _dealt(dice: random.Random, faults: int) -> list[tuple[str, Kind]]:
    """Whole decks of all shares, shuffled, and the beginning of another."""
    deck = [kind for shares in (PROCESS_SHARES, SERVER_SHARES) for kind, count in shares.items() for _ in range(count)]
    dealt: list[tuple[str, Kind]] = []
    while len(dealt) < faults:
        dice.shuffle(deck)
        dealt += deck
    return dealt[:faults]


def _fault(dice: random.Random, after: int, target: str, kind: Kind) -> Fault:
    replica = dice.randint(1, REPLICAS)
    part = target if target in SERVERS or replica == 1 else f"{target}-{replica}"
    seconds = {Kind.STOP_SHORT: dice.uniform(*SHORT_STOP_SECONDS), Kind.STOP_LONG: LONG_STOP_SECONDS}.get(kind, 0.0)
    return Fault(after, kind, part, round(seconds, 2))
