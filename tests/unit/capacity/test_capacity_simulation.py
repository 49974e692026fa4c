"""The simulated queues: what is drawn, what is refused, and what a lost region does to those who are left."""

import random
from functools import cache

import pytest

from turnstream.capacity.measured import read_measured
from turnstream.capacity.plan import Plan, make_plan
from turnstream.capacity.scenarios import Budget, Simulation, run_simulation, steps_of
from turnstream.capacity.simulation import Scenario, SlotQueue, percentile, simulate
from turnstream.capacity.workload import Bursts, TurnTimes, Workload, arrivals, by_mean, by_percentiles, workload_of

SMALL = Budget(queues=4, normal_s=100.0)
# By name, as in the results of 2026-11-21: the tests do not change when a benchmark is run again.
MEASURED = {"inference_token": 170, "pipeline_p50": 85.5, "pipeline_p99": 245}


def planned(**given: float) -> Plan:
    return make_plan(read_measured(), {**MEASURED, **given})


def workload() -> Workload:
    return workload_of(planned())


@cache
def simulated(**given: float) -> Simulation:
    return run_simulation(planned(**given), 7, fail_region=True, budget=SMALL)


def test_a_lognormal_has_its_mean_and_deviation() -> None:
    source = random.Random(3)
    drawn = [by_mean(8.0, 0.5).draw(source) for _ in range(40_000)]
    mean = sum(drawn) / len(drawn)
    deviation = (sum((value - mean) ** 2 for value in drawn) / len(drawn)) ** 0.5
    assert mean == pytest.approx(8.0, rel=0.02)
    assert deviation == pytest.approx(4.0, rel=0.05)


def test_a_lognormal_has_its_percentiles() -> None:
    source = random.Random(3)
    drawn = [by_percentiles(0.0855, 0.245).draw(source) for _ in range(40_000)]
    assert percentile(drawn, 0.5) == pytest.approx(0.0855, rel=0.02)
    assert percentile(drawn, 0.99) == pytest.approx(0.245, rel=0.05)


@pytest.mark.parametrize("bursts", [Bursts(), Bursts(cv=0.5, period_s=10)])
def test_arrivals_come_at_their_rate_in_order_and_in_time(bursts: Bursts) -> None:
    times = list(arrivals(20, 100, 1_100, bursts, random.Random(5)))
    assert len(times) == pytest.approx(20_000, rel=0.1)
    assert times == sorted(times)
    assert 100 <= times[0] <= times[-1] < 1_100


def test_bursts_spread_the_counts() -> None:
    def spread(bursts: Bursts) -> float:
        counts = [0] * 200
        for at in arrivals(20, 0, 2_000, bursts, random.Random(5)):
            counts[int(at // 10)] += 1
        mean = sum(counts) / len(counts)
        return float(sum((count - mean) ** 2 for count in counts) / len(counts) / mean)

    assert spread(Bursts()) == pytest.approx(1.0, abs=0.3)
    assert spread(Bursts(cv=0.3, period_s=10)) > 10


def test_first_come_first_served() -> None:
    queue = SlotQueue(slots=2, wait_max_s=5.0)
    turn = TurnTimes(pipeline_s=0.25, prefill_s=0.5, slot_s=4.0)
    served = [queue.serve(at, turn) for at in (0.0, 1.0, 2.0, 2.5)]
    assert [one.wait_s for one in served if one] == [0.0, 0.0, 2.0, 2.5]
    assert [one.first_token_s for one in served if one] == [0.75, 0.75, 2.75, 3.25]


def test_a_wait_beyond_the_limit_is_refused_and_takes_no_slot() -> None:
    queue = SlotQueue(slots=1, wait_max_s=1.0)
    turn = TurnTimes(0.0, 0.0, 4.0)
    assert queue.serve(0.0, turn)
    assert queue.serve(2.0, turn) is None
    last = queue.serve(3.5, turn)
    assert last is not None
    assert last.wait_s == 0.5


def scenario(load: float, load_lost: float | None = None, reasked: float = 0.0) -> Scenario:
    return Scenario(
        slots=16,
        rate=load * 2,
        queues=3,
        normal_s=200,
        settling_s=40,
        workload=workload(),
        rate_lost=None if load_lost is None else load_lost * 2,
        failover_s=20,
        reasked=reasked,
    )


def test_the_same_seed_gives_the_same_outcome() -> None:
    first, again, other = (simulate(scenario(0.8, 0.9), seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_phases_hold_what_came_in_them() -> None:
    outcome = simulate(scenario(0.5, 0.6, reasked=40), 1)
    assert len(outcome.normal.wait_s) == pytest.approx(3 * 200 * 1.0, rel=0.15)
    assert len(outcome.failover.wait_s) == pytest.approx(3 * (20 * 1.2 + 40), rel=0.25)
    assert len(outcome.lost.wait_s) == pytest.approx(3 * 200 * 1.2, rel=0.15)


def test_nothing_fails_unless_asked() -> None:
    outcome = simulate(scenario(0.5), 1)
    assert outcome.normal.wait_s
    assert not outcome.failover.wait_s
    assert not outcome.lost.wait_s


def test_overload_is_refused_and_waits_stay_bounded() -> None:
    outcome = simulate(scenario(1.5), 1)
    answered = len(outcome.normal.wait_s)
    assert outcome.normal.refused / (answered + outcome.normal.refused) == pytest.approx(1 / 3, abs=0.08)
    assert max(outcome.normal.wait_s) <= 10.0


def test_the_planned_fleet_keeps_its_target_with_a_region_lost() -> None:
    seen = simulated()
    assert seen.holds
    assert {each.phase for each in seen.seen} == {"all regions up", "failing over", "1 lost"}
    planned_lost = next(each for each in seen.seen if (each.fleet, each.phase) == ("planned", "1 lost"))
    assert planned_lost.load == pytest.approx(0.75, abs=0.001)


def test_the_quoted_fleet_does_not() -> None:
    lost = [each for each in simulated().seen if each.fleet == "17,500 GPUs" and each.phase == "1 lost"]
    assert lost
    for each in lost:
        assert each.load == pytest.approx(1.19, abs=0.01)
        assert each.refused_share > 0.05
        assert not each.holds


def test_sharing_slots_moves_the_bend() -> None:
    small, pooled = simulated().bends
    assert (small.slots, pooled.slots) == (64, 1024)
    assert small.breaks_at is not None
    assert pooled.breaks_at is not None
    assert small.breaks_at < pooled.breaks_at


def test_a_fleet_planned_too_tightly_misses_its_target() -> None:
    assert not simulated(gpu_utilisation=0.98).holds


def test_a_fleet_with_nobody_to_serve_holds() -> None:
    few = planned(daily_users=2, prompts_per_day=10, regions=2)
    seen = run_simulation(few, 1, fail_region=True, gpus=2, budget=Budget(queues=1, normal_s=10.0))
    assert seen.slots == 32
    assert seen.holds


def test_it_tells_of_every_queue() -> None:
    told: list[None] = []
    budget = Budget(queues=2, normal_s=10.0)
    run_simulation(planned(), 1, fail_region=False, budget=budget, on_done=lambda: told.append(None))
    assert len(told) == steps_of(2, budget)
