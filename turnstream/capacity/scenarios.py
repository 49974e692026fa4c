"""Which queues are simulated for a plan, and what they say: from which load does the first token come too late."""

from collections.abc import Callable, Iterator
from typing import Final

from pydantic import BaseModel, ConfigDict

from turnstream.capacity.plan import Plan
from turnstream.capacity.simulation import Phase, Scenario, percentile, simulate
from turnstream.capacity.workload import Bursts, Workload, workload_of

SWEPT_LOADS: Final = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.975, 1.0, 1.1)
POOLED: Final = 16
"""The second curve is of queues with so many times the slots: what sharing them would bring."""
_SETTLING_ANSWERS: Final = 5
"""For so many mean answers a queue fills before it is looked at."""
_DIGITS: Final = 3


class Budget(BaseModel):
    """How much is simulated: ``queues`` of a region, for ``normal_s`` seconds before a failure and after it."""

    model_config = ConfigDict(frozen=True)

    queues: int = 32
    normal_s: float = 180.0


class Seen(BaseModel):
    """A stretch of a scenario. Times in seconds, null where no turn was answered; ``load`` is offered, not carried."""

    model_config = ConfigDict(frozen=True)

    fleet: str
    arrivals: str
    phase: str
    load: float
    turns: int
    refused_share: float
    wait_p95_s: float | None
    ttft_p50_s: float | None
    ttft_p95_s: float | None
    ttft_p99_s: float | None
    holds: bool


class Bend(BaseModel):
    """TTFT p95 by load, for queues of ``slots``; ``breaks_at`` is the least load seen that misses the target."""

    model_config = ConfigDict(frozen=True)

    slots: int
    seen: tuple[Seen, ...]
    breaks_at: float | None


class Simulation(BaseModel):
    """What the simulation saw. A queue has ``slots``; a planned region has ``queues_per_region`` of them."""

    model_config = ConfigDict(frozen=True)

    seed: int
    slots: int
    queues_simulated: int
    queues_per_region: int
    target_s: float
    seen: tuple[Seen, ...]
    bends: tuple[Bend, ...]

    @property
    def holds(self) -> bool:
        """Whether the planned fleet kept the target in every stretch."""
        return all(each.holds for each in self.seen if each.fleet == PLANNED)


PLANNED: Final = "planned"
OnDone = Callable[[], None]


def steps_of(fleets: int, budget: Budget | None = None) -> int:
    """How many queues ``run_simulation`` runs for so many fleets."""
    queues = (budget or Budget()).queues
    return queues * 2 * fleets + len(SWEPT_LOADS) * (queues + max(1, queues // POOLED))


def fleets_of(plan: Plan, gpus: int | None) -> dict[str, float]:
    """GPUs of each fleet that is simulated, by its name; ``gpus`` stands in for the quoted one."""
    other = plan["gpus_known"] if gpus is None else gpus
    return {PLANNED: plan["gpus"], f"{other:,.0f} GPUs": other}


def run_simulation(
    plan: Plan,
    seed: int,
    *,
    fail_region: bool,
    gpus: int | None = None,
    queue_slots: int | None = None,
    budget: Budget | None = None,
    on_done: OnDone = lambda: None,
) -> Simulation:
    """Simulate the planned fleet and another, and the curve of TTFT over load. ``on_done`` is told of each queue."""
    limits = budget or Budget()
    slots = queue_slots or int(plan["queue_slots"])
    model = _Model(plan, workload_of(plan), slots, limits)
    seen = [
        one
        for name, count in fleets_of(plan, gpus).items()
        for bursts in (Bursts(), Bursts(plan["burst_cv"], plan["burst_seconds"]))
        for one in model.fleet(name, count, bursts, seed, fail_region=fail_region, on_done=on_done)
    ]
    fewer = Budget(queues=max(1, limits.queues // POOLED), normal_s=limits.normal_s)
    pooled = _Model(plan, model.workload, slots * POOLED, fewer)
    return Simulation(
        seed=seed,
        slots=slots,
        queues_simulated=limits.queues,
        queues_per_region=max(1, round(plan["region_gpus"] * plan["gpu_slots"] / slots)),
        target_s=plan["ttft_target"],
        seen=tuple(seen),
        bends=tuple(each.bend(seed, on_done) for each in (model, pooled)),
    )


class _Model:
    """The scenarios of one plan, for queues of one size."""

    def __init__(self, plan: Plan, workload: Workload, slots: int, budget: Budget) -> None:
        self._plan = plan
        self.workload = workload
        self._slots = slots
        self._budget = budget

    def fleet(
        self, name: str, gpus: float, bursts: Bursts, seed: int, *, fail_region: bool, on_done: OnDone
    ) -> Iterator[Seen]:
        """What a fleet of ``gpus`` does at peak, and when regions fail."""
        plan = self._plan
        load = plan["peak_turns"] / plan["gpu_turns"] / gpus
        spread = plan["regions"] / plan["regions_left"]
        scenario = self._scenario(load, bursts)
        if fail_region:
            lost = min(load, 1.0) * self._slots * (spread - 1)
            scenario = self._scenario(load, bursts, load_lost=load * spread, reasked=lost)
        outcome = simulate(scenario, seed, on_done)
        arrivals = f"bursts of {bursts.cv:.0%}" if bursts.cv else "Poisson"
        yield self._seen(name, arrivals, "all regions up", load, outcome.normal)
        if fail_region:
            asked = load * spread + lost * plan["answer_seconds"] / self._slots / plan["failover_seconds"]
            yield self._seen(name, arrivals, "failing over", asked, outcome.failover)
            yield self._seen(name, arrivals, f"{plan['regions_lost']:.0f} lost", load * spread, outcome.lost)

    def bend(self, seed: int, on_done: OnDone) -> Bend:
        """TTFT by load under Poisson arrivals."""
        seen = []
        for load in SWEPT_LOADS:
            outcome = simulate(self._scenario(load, Bursts()), seed, on_done)
            seen.append(self._seen("any", "Poisson", "sweep", load, outcome.normal))
        broken = [each.load for each in seen if not each.holds]
        return Bend(slots=self._slots, seen=tuple(seen), breaks_at=min(broken, default=None))

    def _scenario(self, load: float, bursts: Bursts, load_lost: float | None = None, reasked: float = 0.0) -> Scenario:
        full_rate = self._slots / self._plan["answer_seconds"]
        return Scenario(
            slots=self._slots,
            rate=load * full_rate,
            queues=self._budget.queues,
            normal_s=self._budget.normal_s,
            settling_s=_SETTLING_ANSWERS * self._plan["answer_seconds"],
            workload=self.workload,
            bursts=bursts,
            wait_max_s=self._plan["queue_seconds_max"],
            rate_lost=None if load_lost is None else load_lost * full_rate,
            failover_s=self._plan["failover_seconds"],
            reasked=reasked,
        )

    def _seen(self, fleet: str, arrivals: str, phase_name: str, load: float, phase: Phase) -> Seen:
        answered = len(phase.first_token_s)
        p95 = _rounded(percentile(phase.first_token_s, 0.95)) if answered else None
        asked = answered + phase.refused
        return Seen(
            fleet=fleet,
            arrivals=arrivals,
            phase=phase_name,
            load=_rounded(load),
            turns=asked,
            refused_share=_rounded(phase.refused / asked) if asked else 0.0,
            wait_p95_s=_rounded(percentile(phase.wait_s, 0.95)) if answered else None,
            ttft_p50_s=_rounded(percentile(phase.first_token_s, 0.5)) if answered else None,
            ttft_p95_s=p95,
            ttft_p99_s=_rounded(percentile(phase.first_token_s, 0.99)) if answered else None,
            holds=(p95 is None or p95 < self._plan["ttft_target"]) and not phase.refused,
        )


def _rounded(value: float) -> float:
    return round(value, _DIGITS)
