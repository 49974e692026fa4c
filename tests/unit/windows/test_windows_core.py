"""Minute windows: totals whatever the order and repetition, and their bounds."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import FinishReason, Usage, UsageRecorded, UsageRolledUp
from stream_processors.windows.core import (
    HOUR_MS,
    WINDOW_MS,
    Counted,
    Windows,
    WindowsSettings,
    count,
    count_all,
    newest_start,
    rollup_key,
    table_key,
)
from stream_processors.windows.idle_keys import IdleKeys
from stream_processors.windows.turn_marks import marks

SETTINGS = WindowsSettings(windows_kept_max=3, turns_per_window_max=4)
MINUTE = 1_700_000_040_000
HOUR = MINUTE - MINUTE % HOUR_MS


def usage(turn: int, at_ms: int = MINUTE, **changes: Any) -> UsageRecorded:
    values: dict[str, Any] = {
        "turn_id": f"turn-{turn}",
        "conversation_id": "c",
        "tenant_id": "tenant",
        "user_id": "user",
        "key_id": "key",
        "plan": "free",
        "model": "model",
        "pool": "fast",
        "usage": Usage(prompt_tokens=10 + turn, completion_tokens=turn),
        "finish_reason": FinishReason.STOP,
        "attempt": 1,
        "duration_ms": 5,
        "submitted_at_ms": at_ms - 5,
        "recorded_at_ms": at_ms,
    }
    return UsageRecorded.model_validate({**values, **changes})


def fold(*events: UsageRecorded, settings: WindowsSettings = SETTINGS) -> tuple[Windows, list[UsageRolledUp | None]]:
    """The windows after the events, and per event the total of its minute."""
    windows: Windows = {}
    rollups: list[UsageRolledUp | None] = []
    for event in events:
        counted = count(windows, event, settings)
        windows = counted.windows
        rollups.append(counted.rollups[0] if counted.rollups else None)
    return windows, rollups


def test_a_window_is_the_minute_in_which_usage_was_recorded() -> None:
    _, (first, last, following) = fold(usage(1), usage(2, MINUTE + WINDOW_MS - 1), usage(3, MINUTE + WINDOW_MS))
    assert first is not None
    assert last is not None
    assert following is not None
    assert (first.window_start_ms, first.window_end_ms) == (MINUTE, MINUTE + WINDOW_MS)
    assert (last.turns, last.prompt_tokens, last.completion_tokens) == (2, 23, 3)
    assert (following.window_start_ms, following.turns) == (MINUTE + WINDOW_MS, 1)


def test_a_redelivered_event_gives_the_same_total_again() -> None:
    _, (first, again) = fold(usage(1), usage(1))
    assert first == again


def test_an_event_for_a_window_that_is_gone_is_left_out() -> None:
    windows, rollups = fold(usage(1), usage(2, MINUTE + 3 * WINDOW_MS), usage(3, MINUTE))
    assert rollups[2] is None
    assert set(windows) == {str(MINUTE + 3 * WINDOW_MS), f"h{HOUR}"}


def test_an_event_behind_the_newest_but_in_a_window_that_is_kept_counts() -> None:
    _, rollups = fold(usage(1), usage(2, MINUTE + 2 * WINDOW_MS), usage(3, MINUTE))
    assert [rollup.turns for rollup in rollups if rollup is not None] == [1, 1, 2]


def test_beyond_the_bound_turns_count_without_being_remembered() -> None:
    windows, rollups = fold(*(usage(turn) for turn in (1, 2, 3, 4, 5, 1, 5)))
    assert [rollup.turns for rollup in rollups if rollup is not None] == [1, 2, 3, 4, 5, 5, 6]
    assert len(marks(windows[str(MINUTE)]["seen"]).split()) == 4


def test_the_state_is_plain_json() -> None:
    windows, _ = fold(usage(1), usage(2))
    assert json.loads(json.dumps(windows)) == windows


def test_counting_changes_nothing_given() -> None:
    windows, _ = fold(usage(1))
    before = json.dumps(windows)
    count(windows, usage(2), SETTINGS)
    assert json.dumps(windows) == before


# A turn's usage always carries the same time: a redelivery repeats it unchanged.
events = st.lists(st.integers(0, 9).map(lambda turn: (turn, turn % 3)))


@given(turns=events)
def test_totals_do_not_depend_on_order_or_repetition(turns: list[tuple[int, int]]) -> None:
    settings = WindowsSettings(windows_kept_max=3, turns_per_window_max=10)
    windows, _ = fold(*(usage(turn, MINUTE + minute * WINDOW_MS) for turn, minute in turns), settings=settings)
    distinct = set(turns)
    for minute in range(3):
        inside = [turn for turn, place in distinct if place == minute]
        window = windows.get(str(MINUTE + minute * WINDOW_MS))
        assert (window["turns"] if window else 0) == len(inside)
        assert (window["completion_tokens"] if window else 0) == sum(inside)


@given(turns=events)
def test_a_batch_leaves_what_its_events_leave_one_by_one(turns: list[tuple[int, int]]) -> None:
    bills = [usage(turn, MINUTE + minute * WINDOW_MS) for turn, minute in turns]
    one_by_one: Windows = {}
    last: dict[str, UsageRolledUp] = {}
    for bill in bills:
        counted = count(one_by_one, bill, SETTINGS)
        one_by_one = counted.windows
        last |= {rollup_key(rollup): rollup for rollup in counted.rollups}
    together = count_all({}, bills, SETTINGS)
    assert together.windows == one_by_one
    assert {rollup_key(rollup): rollup for rollup in together.rollups} == last
    assert len(together.rollups) == len(last)


def test_a_batch_tells_the_total_of_a_minute_that_it_leaves_behind() -> None:
    counted = count_all({}, [usage(1), usage(2, MINUTE + 5 * WINDOW_MS), usage(3)], SETTINGS)
    assert [(rollup.window, rollup.window_start_ms, rollup.turns) for rollup in counted.rollups] == [
        ("minute", MINUTE, 1),
        ("hour", HOUR, 2),
        ("minute", MINUTE + 5 * WINDOW_MS, 1),
    ]
    assert set(counted.windows) == {str(MINUTE + 5 * WINDOW_MS), f"h{HOUR}"}
    assert [late.turn_id for late in counted.late] == ["turn-3"]


def test_keys_name_tenant_user_model_and_window() -> None:
    _, (rollup,) = fold(usage(1))
    assert rollup is not None
    assert rollup_key(rollup) == f"tenant|user|model|minute|{MINUTE}"
    assert table_key(usage(1)) == "tenant|user|model"


@pytest.mark.parametrize(("tenant", "user"), [("a|b", "c"), ("a", "b|c"), ("a%7Cb", "c")])
def test_no_two_users_share_a_key(tenant: str, user: str) -> None:
    others = {("a|b", "c"), ("a", "b|c"), ("a%7Cb", "c")} - {(tenant, user)}
    key = table_key(usage(1, tenant_id=tenant, user_id=user))
    assert key not in {table_key(usage(1, tenant_id=one, user_id=other)) for one, other in others}


def test_the_newest_window_tells_when_a_key_was_used() -> None:
    windows, _ = fold(usage(1), usage(2, MINUTE + WINDOW_MS))
    assert newest_start(windows) == MINUTE + WINDOW_MS
    assert newest_start({}) == 0


def test_idle_keys_go_two_at_a_time_least_recently_used_first() -> None:
    idle = IdleKeys(idle_ms_max=100)
    for moment, key in enumerate(("a", "b", "c", "a")):
        idle.use(0, key, moment)
    assert idle.take_idle(0, 101) == []
    assert idle.take_idle(0, 200) == ["b", "c"]
    assert idle.take_idle(0, 200) == ["a"]
    assert idle.take_idle(0, 200) == []


def test_idle_keys_belong_to_their_partition() -> None:
    idle = IdleKeys(idle_ms_max=100)
    idle.use(0, "a", 0)
    assert idle.take_idle(1, 1_000) == []
    assert idle.take_idle(0, 1_000) == ["a"]


def test_an_older_event_does_not_make_a_key_older() -> None:
    idle = IdleKeys(idle_ms_max=100)
    idle.use(0, "a", 500)
    idle.use(0, "a", 1)
    assert idle.take_idle(0, 600) == []


def test_a_turn_that_was_refused_after_its_admission_is_in_no_window() -> None:
    unused = usage(1, usage=Usage(prompt_tokens=0, completion_tokens=0), attempt=0)
    assert count({}, unused, SETTINGS) == Counted({}, ())


def test_an_hour_adds_up_its_minutes_and_each_turn_counts_once_in_it() -> None:
    windows: Windows = {}
    hours = []
    for turn, minute in ((1, 0), (2, 1), (1, 0), (3, 2), (2, 1)):
        cached = Usage(prompt_tokens=10, completion_tokens=1, cached_tokens=4)
        event = usage(turn, MINUTE + minute * WINDOW_MS, usage=cached, cost_nano_usd=7)
        counted = count(windows, event, SETTINGS)
        windows = counted.windows
        hours.append(counted.rollups[1])
    assert [hour.turns for hour in hours] == [1, 2, 2, 3, 3]
    last = hours[-1]
    assert (last.window, last.window_start_ms, last.window_end_ms) == ("hour", HOUR, HOUR + HOUR_MS)
    assert (last.prompt_tokens, last.cached_tokens, last.completion_tokens, last.cost_nano_usd) == (30, 12, 3, 21)


def test_an_hour_is_kept_as_long_as_a_minute_in_it() -> None:
    settings = WindowsSettings(windows_kept_max=10)
    first, second = HOUR + HOUR_MS - WINDOW_MS, HOUR + HOUR_MS
    windows: Windows = {}
    for turn, moment in enumerate((first, second, first, second + 20 * WINDOW_MS)):
        counted = count(windows, usage(turn, moment), settings)
        windows = counted.windows
        if turn == 2:
            assert (counted.rollups[1].window_start_ms, counted.rollups[1].turns) == (HOUR, 2)
    assert set(windows) == {str(second + 20 * WINDOW_MS), f"h{HOUR + HOUR_MS}"}


def test_minutes_of_a_version_that_kept_ids_know_their_turns() -> None:
    old: Windows = {str(MINUTE): {"turns": 1, "prompt_tokens": 5, "completion_tokens": 2, "seen": ["turn-1"]}}
    minute, _ = count_all(old, [usage(1), usage(2)], SETTINGS).rollups
    assert minute.turns == 2


def test_minutes_of_a_version_without_costs_count_on() -> None:
    old: Windows = {str(MINUTE): {"turns": 1, "prompt_tokens": 5, "completion_tokens": 2, "seen": ["turn-0"]}}
    minute, _ = count(old, usage(1, cost_nano_usd=9), SETTINGS).rollups
    assert (minute.turns, minute.prompt_tokens, minute.cost_nano_usd) == (2, 16, 9)
