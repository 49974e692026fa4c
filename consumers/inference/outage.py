"""How long a turn stands a backend that fails: not for how many tries, but for how long without a new token. Pure."""

import zlib
from dataclasses import dataclass, replace
from typing import Final

from consumers.inference.core import Answer, InferenceSettings

_DOUBLINGS_MAX: Final = 16


@dataclass(frozen=True, slots=True)
class Outage:
    """Generations that failed one after another: how many, since when (monotonic seconds), and after which text."""

    failures: int
    since_s: float
    accepted_chars: int


def after_failure(outage: Outage | None, answer: Answer, now_s: float) -> Outage:
    """The outage with one more failure; a new one if the text has grown since the last."""
    if outage is None or len(answer.text) > outage.accepted_chars:
        return Outage(1, now_s, len(answer.text))
    return replace(outage, failures=outage.failures + 1)


def gives_up(outage: Outage, generations: int, now_s: float, settings: InferenceSettings) -> bool:
    """Whether the turn fails. Never at the first failure: every outage is tried at least twice."""
    if generations >= settings.generations_per_turn_max:
        return True
    return outage.failures > 1 and (now_s - outage.since_s) * 1000 >= settings.outage_ms_max


def pause_ms(outage: Outage, turn_id: str, settings: InferenceSettings) -> float:
    """Pause before the next generation: doubling, bounded, spread over its upper half by the turn's own entropy."""
    ceiling = min(settings.backoff_ms_max, settings.backoff_ms_min << min(outage.failures - 1, _DOUBLINGS_MAX))
    spread = zlib.crc32(f"{turn_id}:{outage.failures}".encode()) / 0xFFFFFFFF
    return ceiling * (1 + spread) / 2
