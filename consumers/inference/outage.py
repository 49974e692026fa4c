"""How long a turn stands a backend that fails: not for how many tries, but for how long without a new token. Pure."""

import zlib
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Final

from consumers.inference.answer import Answer
from consumers.inference.core import InferenceSettings
from consumers.inference.failures import NotServed
from schemas.errors import Malformed

_DOUBLINGS_MAX: Final = 16


class Reaction(Enum):
    """What a turn does about a failed generation."""

    TRY_AGAIN = auto()
    GO_ELSEWHERE = auto()
    GIVE_UP = auto()


@dataclass(frozen=True, slots=True)
class Outage:
    """Generations that failed one after another: how many, since when (monotonic seconds), and after which text."""

    failures: int
    since_s: float
    accepted_chars: int


def after_failure(outage: Outage | None, answer: Answer, now_s: float) -> Outage:
    """The outage with one more failure; a new one if the text has grown since the last."""
    if outage is None or answer.chars > outage.accepted_chars:
        return Outage(1, now_s, answer.chars)
    return replace(outage, failures=outage.failures + 1)


def gives_up(outage: Outage, generations: int, now_s: float, settings: InferenceSettings) -> bool:
    """Whether the turn fails. Never at the first failure: every outage is tried at least twice."""
    if generations >= settings.generations_per_turn_max:
        return True
    return outage.failures > 1 and (now_s - outage.since_s) * 1000 >= settings.outage_ms_max


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What decides, beside the failures: whether another pool may answer instead, and whether this one is down.

    ``waited`` in vain for ``fallback_ms_max`` in the last generation alone: its server hung.
    """

    fallback: bool
    pool_down: bool
    waited: bool
    generations: int
    now_s: float


def react(outage: Outage, cause: Exception | None, around: Circumstances, settings: InferenceSettings) -> Reaction:
    """What to do after a generation failed for ``cause``.

    A turn that nobody has seen a token of goes to another pool, if it has one, when this one does not serve its model,
    is known to be down, or has failed it for ``fallback_ms_max``. A rejection of the request itself is final.
    """
    if around.fallback and (isinstance(cause, NotServed) or (around.pool_down and not isinstance(cause, Malformed))):
        return Reaction.GO_ELSEWHERE
    if isinstance(cause, Malformed):
        return Reaction.GIVE_UP
    failing_ms = (around.now_s - outage.since_s) * 1000
    if around.fallback and (around.waited or (outage.failures > 1 and failing_ms >= settings.fallback_ms_max)):
        return Reaction.GO_ELSEWHERE
    if gives_up(outage, around.generations, around.now_s, settings):
        return Reaction.GO_ELSEWHERE if around.fallback else Reaction.GIVE_UP
    return Reaction.TRY_AGAIN


def pause_ms(outage: Outage, turn_id: str, settings: InferenceSettings) -> float:
    """Pause before the next generation: doubling, bounded, spread over its upper half by the turn's own entropy."""
    ceiling = min(settings.backoff_ms_max, settings.backoff_ms_min << min(outage.failures - 1, _DOUBLINGS_MAX))
    spread = zlib.crc32(f"{turn_id}:{outage.failures}".encode()) / 0xFFFFFFFF
    return ceiling * (1 + spread) / 2
