"""A discrete-event simulation of GPU queues: first come, first served, by k slots each, with a region lost or not.

One queue stands for what shares slots: an inference consumer and its GPUs. A region is many such queues, alike and
independent of each other (turns reach them by the hash of their conversation), so some of them tell of all.
"""

import heapq
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from turnstream.capacity.workload import Bursts, TurnTimes, Workload, arrivals

POISSON: Final = Bursts()


class Served(NamedTuple):
    """A turn that got a slot: when it came, how long it waited, its time to the first token; seconds."""

    arrived_s: float
    wait_s: float
    first_token_s: float


@dataclass(slots=True)
class SlotQueue:
    """FCFS before ``slots`` slots. As admission control does, it refuses turns that would wait over ``wait_max_s``."""

    slots: int
    wait_max_s: float
    _free_at: list[float] = field(default_factory=list)

    def serve(self, arrived_s: float, turn: TurnTimes) -> Served | None:
        """Give a turn the first slot that gets free; None when it is refused. Calls must be in order of arrival."""
        free = self._free_at
        waits = len(free) >= self.slots and free[0] > arrived_s
        wait_s = free[0] - arrived_s if waits else 0.0
        if wait_s > self.wait_max_s:
            return None
        until_s = arrived_s + wait_s + turn.slot_s
        if len(free) < self.slots:
            heapq.heappush(free, until_s)
        else:
            heapq.heapreplace(free, until_s)
        return Served(arrived_s, wait_s, turn.pipeline_s + wait_s + turn.prefill_s)


@dataclass(frozen=True, slots=True)
class Scenario:
    """``queues`` queues of ``slots``, each with ``rate`` turns a second; ``normal_s`` seconds are looked at.

    Before that the queues, which are empty at first, have ``settling_s`` to fill.

    With ``rate_lost`` a region fails then: ``failover_s`` in which the turns that ran there are asked again here, at
    ``reasked`` turns per queue in all, and as long as before at ``rate_lost``.
    """

    slots: int
    rate: float
    queues: int
    normal_s: float
    settling_s: float
    workload: Workload
    bursts: Bursts = POISSON
    wait_max_s: float = 10.0
    rate_lost: float | None = None
    failover_s: float = 30.0
    reasked: float = 0.0


@dataclass(slots=True)
class Phase:
    """What was seen in a stretch of time: times in seconds, in no order."""

    first_token_s: list[float] = field(default_factory=list)
    wait_s: list[float] = field(default_factory=list)
    refused: int = 0

    def add(self, served: Served | None) -> None:
        """Count a turn, or a refusal."""
        if served is None:
            self.refused += 1
        else:
            self.first_token_s.append(served.first_token_s)
            self.wait_s.append(served.wait_s)


@dataclass(slots=True)
class Outcome:
    """The phases of a scenario; the last two are empty when nothing fails."""

    normal: Phase = field(default_factory=Phase)
    failover: Phase = field(default_factory=Phase)
    lost: Phase = field(default_factory=Phase)


def simulate(scenario: Scenario, seed: int, on_queue: Callable[[], None] = lambda: None) -> Outcome:
    """Run every queue of ``scenario``; the same ``seed`` gives the same outcome. ``on_queue`` is told of each."""
    outcome = Outcome()
    for number in range(scenario.queues):
        _run_queue(scenario, random.Random(f"{seed}/{number}"), outcome)  # noqa: S311 - a simulation
        on_queue()
    return outcome


def _run_queue(scenario: Scenario, random_source: random.Random, outcome: Outcome) -> None:
    queue = SlotQueue(scenario.slots, scenario.wait_max_s)
    fails_s = scenario.settling_s + scenario.normal_s
    for at in arrivals(scenario.rate, 0.0, fails_s, scenario.bursts, random_source):
        served = queue.serve(at, scenario.workload.turn(random_source))
        if at >= scenario.settling_s:
            outcome.normal.add(served)
    if scenario.rate_lost is None:
        return
    switched_s = fails_s + scenario.failover_s
    for at in _after_failure(scenario, fails_s, random_source):
        served = queue.serve(at, scenario.workload.turn(random_source))
        (outcome.failover if at < switched_s else outcome.lost).add(served)


def _after_failure(scenario: Scenario, fails_s: float, random_source: random.Random) -> Iterable[float]:
    rate = scenario.rate_lost or 0.0
    until_s = fails_s + scenario.failover_s + scenario.normal_s
    streams = [arrivals(rate, fails_s, until_s, scenario.bursts, random_source)]
    if scenario.reasked:
        again = scenario.reasked / scenario.failover_s
        # A stream of its own source: two that are merged would draw in an order that depends on the merge.
        source = random.Random(random_source.random())  # noqa: S311 - a simulation
        streams.append(arrivals(again, fails_s, fails_s + scenario.failover_s, POISSON, source))
    return heapq.merge(*streams)


def percentile(values: Sequence[float], share: float) -> float:
    """The value that ``share`` (0..1) of ``values`` do not exceed, nearest rank; NaN of none."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(share * (len(ordered) - 1))))]
