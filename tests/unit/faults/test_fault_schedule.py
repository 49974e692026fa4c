from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.faults.schedule import EDGES, KIND_SHARES, SERVERS, Kind, ScheduleSettings, plan_faults
from tests.faults.turn_plans import expected, key_of_prompt, plan_turn

SETTINGS = ScheduleSettings()
SEEDS = st.integers(0, 2**32)
TURNS = st.integers(50, 1_500)


@given(SEEDS, TURNS)
def test_the_same_seed_is_the_same_schedule(seed: int, turns: int) -> None:
    assert plan_faults(seed, turns) == plan_faults(seed, turns)


def test_another_seed_is_another_schedule() -> None:
    assert plan_faults(1, 200) != plan_faults(2, 200)


@given(SEEDS)
def test_a_thousand_turns_have_more_than_two_hundred_process_faults(seed: int) -> None:
    faults = plan_faults(seed, 1_000)
    assert sum(not fault.hits_server for fault in faults) >= 200
    assert Counter(fault.target for fault in faults if fault.hits_server).keys() == set(SERVERS)
    assert {fault.kind for fault in faults} == set(Kind)


@given(SEEDS, TURNS)
def test_kinds_have_their_shares(seed: int, turns: int) -> None:
    kinds = Counter(fault.kind for fault in plan_faults(seed, turns) if not fault.hits_server)
    for kind, share in KIND_SHARES.items():
        assert abs(kinds[kind] - share * kinds.total()) < 1


@given(SEEDS, TURNS)
def test_faults_are_in_order_and_inside_the_run(seed: int, turns: int) -> None:
    places = [fault.at_turn for fault in plan_faults(seed, turns)]
    assert places == sorted(places)
    assert SETTINGS.turns_before_first <= places[0]
    assert places[-1] < turns


@given(SEEDS, TURNS)
def test_servers_and_edges_get_time_between(seed: int, turns: int) -> None:
    faults = plan_faults(seed, turns)
    servers = [fault.at_turn for fault in faults if fault.hits_server]
    edges = [fault.at_turn for fault in faults if fault.target in EDGES]
    assert all(after - before >= SETTINGS.turns_between_server_faults_min for before, after in pairwise(servers))
    assert all(after - before >= SETTINGS.turns_between_edge_faults_min for before, after in pairwise(edges))


@given(SEEDS, TURNS)
def test_pauses_last_as_the_settings_say(seed: int, turns: int) -> None:
    for fault in plan_faults(seed, turns):
        if fault.kind is Kind.PAUSE:
            assert SETTINGS.pause_seconds_min <= fault.seconds <= SETTINGS.pause_seconds_max
        elif fault.kind is Kind.ZOMBIE:
            assert SETTINGS.zombie_seconds_min <= fault.seconds <= SETTINGS.zombie_seconds_max
        else:
            assert fault.seconds == 0


def test_faults_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        plan_faults(1, 100, ScheduleSettings(server_faults_per_turn=0.5))
    with pytest.raises(ValueError, match="no room"):
        plan_faults(1, 3)


@given(SEEDS, st.integers(0, 2_000))
def test_a_turn_is_the_same_for_the_same_seed_and_says_its_key(seed: int, number: int) -> None:
    plan = plan_turn(seed, number)
    assert plan == plan_turn(seed, number)
    assert key_of_prompt(plan.prompt) == plan.key
    assert key_of_prompt(plan.second_prompt) == f"{plan.key}-busy"


@given(SEEDS, st.integers(0, 2_000))
def test_what_a_stored_turn_answers_does_not_depend_on_its_conversation(seed: int, number: int) -> None:
    plan = plan_turn(seed, number)
    if plan.stored:
        assert "tokens=" in plan.prompt
        assert "You wrote" not in expected(plan.prompt)
