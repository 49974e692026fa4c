"""The simulation gives what queueing theory says, where theory says something. Seeded: no test is a matter of luck."""

import math
import random
from collections.abc import Callable

import pytest

from tests.unit.capacity.queueing_theory import erlang_b, erlang_c, wait_mean, wait_quantile
from turnstream.capacity.simulation import POISSON, SlotQueue, percentile
from turnstream.capacity.workload import TurnTimes, arrivals, by_mean

SETTLING = 2_000
Draw = Callable[[random.Random], float]


def waits(slots: int, load: float, turns: int, service: Draw, seed: int = 1) -> list[float]:
    """Waits of so many turns, with a mean service of one second."""
    source = random.Random(seed)
    queue = SlotQueue(slots, math.inf)
    seen: list[float] = []
    for at in arrivals(load * slots, 0.0, math.inf, POISSON, source):
        served = queue.serve(at, TurnTimes(0.0, 0.0, service(source)))
        assert served is not None
        seen.append(served.wait_s)
        if len(seen) == turns + SETTLING:
            break
    return seen[SETTLING:]


def exponential(source: random.Random) -> float:
    return source.expovariate(1.0)


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def test_known_values_of_erlang() -> None:
    assert erlang_b(1, 1.0) == pytest.approx(0.5)
    assert erlang_b(10, 5.0) == pytest.approx(0.018385, rel=1e-4)
    assert erlang_c(1, 0.7) == pytest.approx(0.7)
    assert erlang_c(2, 0.5) == pytest.approx(1 / 3)
    assert erlang_c(10, 0.5) == pytest.approx(0.036105, rel=1e-4)
    assert 0 < erlang_c(100_000, 0.999) < 1


@pytest.mark.parametrize("load", [1.0, 1.2, -0.1])
def test_a_queue_that_never_settles_has_no_wait(load: float) -> None:
    with pytest.raises(ValueError, match="never settles"):
        erlang_c(4, load)


@pytest.mark.parametrize(("slots", "load"), [(1, 0.5), (1, 0.7), (2, 0.8), (8, 0.85), (64, 0.85)])
def test_waits_of_exponential_turns_are_erlangs(slots: int, load: float) -> None:
    seen = waits(slots, load, 100_000, exponential)
    assert mean(seen) == pytest.approx(wait_mean(slots, load, 1.0), rel=0.08)
    waited = sum(wait > 0 for wait in seen) / len(seen)
    assert waited == pytest.approx(erlang_c(slots, load), rel=0.05)
    assert percentile(seen, 0.99) == pytest.approx(wait_quantile(slots, load, 1.0, 0.99), rel=0.12)


def test_turns_of_one_length_wait_half_as_long() -> None:
    """Pollaczek and Khinchine: M/D/1."""
    seen = waits(1, 0.7, 80_000, lambda _source: 1.0)
    assert mean(seen) == pytest.approx(wait_mean(1, 0.7, 1.0, service_cv=0.0), rel=0.05)
    assert mean(seen) == pytest.approx(0.7 / 0.3 / 2, rel=0.05)


def test_lognormal_turns_wait_as_allen_and_cunneen_say() -> None:
    turns = by_mean(1.0, 1.0)
    seen = waits(32, 0.9, 120_000, turns.draw)
    assert mean(seen) == pytest.approx(wait_mean(32, 0.9, 1.0, service_cv=1.0), rel=0.15)


def test_more_slots_behind_one_queue_wait_less() -> None:
    assert [wait_mean(slots, 0.9, 1.0) for slots in (1, 8, 64, 1024)] == sorted(
        (wait_mean(slots, 0.9, 1.0) for slots in (1, 8, 64, 1024)), reverse=True
    )
    assert wait_quantile(1024, 0.9, 1.0, 0.95) == 0
