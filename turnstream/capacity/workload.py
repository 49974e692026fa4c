"""Random turns: when they come and how long they hold a slot. Seeded; the same seed gives the same turns."""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from turnstream.capacity.plan import Plan

_Z99: Final = 2.3263
"""The standard normal's 99th percentile: what lies between the measured p50 and p99 of a lognormal."""


class Lognormal(NamedTuple):
    """A lognormal distribution by the mean and deviation of its logarithm."""

    mu: float
    sigma: float

    def draw(self, random_source: random.Random) -> float:
        """One value."""
        return math.exp(self.mu + self.sigma * random_source.gauss(0.0, 1.0))


def by_mean(mean: float, cv: float) -> Lognormal:
    """The lognormal with this mean, and ``cv`` times it as its standard deviation."""
    variance = math.log1p(cv * cv)
    return Lognormal(math.log(mean) - variance / 2, math.sqrt(variance))


def by_percentiles(p50: float, p99: float) -> Lognormal:
    """The lognormal with these percentiles; all at ``p50`` if the other is not above it."""
    return Lognormal(math.log(p50), max(0.0, math.log(p99 / p50)) / _Z99)


class TurnTimes(NamedTuple):
    """Seconds of one turn: through the pipeline, in prefill, and all of its slot (prefill and answer)."""

    pipeline_s: float
    prefill_s: float
    slot_s: float


@dataclass(frozen=True, slots=True)
class Workload:
    """Distributions of a turn's times, in seconds."""

    pipeline: Lognormal
    prefill: Lognormal
    decode: Lognormal

    def turn(self, random_source: random.Random) -> TurnTimes:
        """The times of one turn."""
        prefill_s = self.prefill.draw(random_source)
        slot_s = prefill_s + self.decode.draw(random_source)
        return TurnTimes(self.pipeline.draw(random_source), prefill_s, slot_s)


def workload_of(plan: Plan) -> Workload:
    """The plan's turns: token counts over the GPU's rates, and the pipeline's measured share of the first token."""
    return Workload(
        pipeline=by_percentiles(plan["pipeline_p50"] / 1000, plan["pipeline_p99"] / 1000),
        prefill=by_mean(plan["prefill_seconds"], plan["prompt_tokens_cv"]),
        decode=by_mean(plan["answer_seconds"] - plan["prefill_seconds"], plan["answer_tokens_cv"]),
    )


@dataclass(frozen=True, slots=True)
class Bursts:
    """The rate of arrivals is drawn anew every ``period_s``: gamma, mean 1, ``cv`` its deviation. 0: plain Poisson."""

    cv: float = 0.0
    period_s: float = 30.0


def arrivals(
    rate: float, start_s: float, end_s: float, bursts: Bursts, random_source: random.Random
) -> Iterator[float]:
    """Times of a Poisson process of ``rate`` a second from ``start_s`` to ``end_s``, modulated by ``bursts``."""
    at = start_s
    while at < end_s:
        until = end_s if bursts.cv == 0 else min(end_s, at + bursts.period_s)
        factor = 1.0 if bursts.cv == 0 else random_source.gammavariate(bursts.cv**-2, bursts.cv**2)
        if rate * factor > 0:
            # What is left of the last gap is forgotten at the border: exponential gaps have no memory.
            at += random_source.expovariate(rate * factor)
            while at < until:
                yield at
                at += random_source.expovariate(rate * factor)
        at = until
