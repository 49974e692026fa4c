"""The ladder: who rises, who falls and when, whatever the order and repetition of what is seen."""

import json
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.abuse import AbuseLevel, AbuseSignalled
from stream_processors.windows import ladder
from stream_processors.windows.abuse_settings import AbuseSettings, Rungs
from stream_processors.windows.ladder import LEVELS, Standing

SECOND = 1_000
MINUTE = 60 * SECOND
NOW = 1_795_000_000_000
SETTINGS = AbuseSettings(
    blocked_inputs=Rungs(warn=2, slow=4, suspend=6),
    burst=Rungs(warn=5, slow=10),
    many_keys=Rungs(warn=3, slow=6),
    warn_seconds=600,
    slow_seconds=900,
    suspend_seconds=3_600,
)
WARN_MS, SLOW_MS, SUSPEND_MS = 600 * SECOND, 900 * SECOND, 3_600 * SECOND

See = Callable[[Standing], Standing]


def blocked(turn: int, at_ms: int = NOW) -> See:
    return lambda standing: ladder.see_blocked(standing, f"b{turn}", at_ms, SETTINGS)


def turn(number: int, at_ms: int = NOW) -> See:
    return lambda standing: ladder.see_turn(standing, f"t{number}", at_ms, SETTINGS)


def keys(count: int, at_ms: int = NOW) -> See:
    return lambda standing: ladder.see_keys(standing, count, at_ms, SETTINGS)


def fold(*seen: See) -> tuple[Standing, list[AbuseSignalled]]:
    """The standing after everything, and the signals that were given on the way."""
    standing, signals = ladder.new_standing(), []
    for see in seen:
        standing = json.loads(json.dumps(see(standing)))
        signal = ladder.due(standing, "acme", "ann", SETTINGS)
        if signal is not None:
            signals.append(signal)
            standing = ladder.told(standing, signal)
    return standing, signals


def levels(signals: Sequence[AbuseSignalled]) -> list[str]:
    return [signal.level.value for signal in signals]


def test_a_user_climbs_rung_by_rung_with_blocked_inputs() -> None:
    _, signals = fold(*(blocked(number) for number in range(8)))
    assert levels(signals) == ["warn", "slow", "suspend"]
    assert [signal.counts for signal in signals] == [{"blocked_inputs": count} for count in (2, 4, 6)]
    assert [signal.until_ms for signal in signals] == [NOW + WARN_MS, NOW + SLOW_MS, NOW + SUSPEND_MS]
    assert signals[-1].causes == ("blocked_inputs",)


def test_blocked_inputs_that_lie_far_apart_lead_nowhere() -> None:
    apart = SETTINGS.blocked_window_ms
    _, signals = fold(*(blocked(number, NOW + number * apart) for number in range(20)))
    assert signals == []


def test_a_burst_is_what_comes_within_a_minute() -> None:
    _, slowly = fold(*(turn(number, NOW + number * 15 * SECOND) for number in range(40)))
    _, at_once = fold(*(turn(number, NOW + number * 10) for number in range(12)))
    assert slowly == []
    assert levels(at_once) == ["warn", "slow"]
    assert at_once[-1].causes == ("burst",)


def test_many_keys_never_suspend() -> None:
    _, signals = fold(keys(2), keys(3), keys(1_000))
    assert levels(signals) == ["warn", "slow"]


def test_a_level_ends_by_itself_and_the_next_lower_one_follows() -> None:
    standing, _ = fold(*(blocked(number) for number in range(6)))
    ends = [NOW + SUSPEND_MS, NOW + SUSPEND_MS + SLOW_MS, NOW + SUSPEND_MS + SLOW_MS + WARN_MS]
    assert [ladder.level_of(standing, end - 1) for end in ends] == [3, 2, 1]
    assert [ladder.level_of(standing, end) for end in ends] == [2, 1, 0]


def test_whoever_comes_back_is_told_on_which_rung() -> None:
    back = NOW + SUSPEND_MS + SECOND
    _, signals = fold(*(blocked(number) for number in range(6)), turn(1, back), turn(2, back + SLOW_MS + WARN_MS))
    assert levels(signals)[-2:] == ["slow", "none"]
    assert signals[-2].until_ms == NOW + SUSPEND_MS + SLOW_MS
    assert (signals[-1].causes, signals[-1].until_ms) == ((), None)


def test_around_a_threshold_nobody_goes_up_and_down() -> None:
    """Four to six turns a minute around a threshold of five, for an hour: warned once, and then for longer."""
    seen, number = [], 0
    for minute in range(60):
        for place in range(4 + minute % 3):
            number += 1
            seen.append(turn(number, NOW + minute * MINUTE + place * 8 * SECOND))
    _, signals = fold(*seen)
    assert set(levels(signals)) == {"warn"}
    assert len(signals) <= 60


def test_quiet_is_less_than_half_of_the_threshold() -> None:
    warned = [turn(number, NOW + number) for number in range(5)]
    # Three a minute are not quiet (half of five is two and a half), two are.
    busy = [turn(100 + n, NOW + MINUTE + n * 19 * SECOND) for n in range(60)]
    quiet = [turn(100 + n, NOW + 2 * MINUTE + n * 40 * SECOND) for n in range(30)]
    last_busy_ms = NOW + MINUTE + 59 * 19 * SECOND
    assert ladder.level_of(fold(*warned, *busy)[0], last_busy_ms) == 1
    assert ladder.level_of(fold(*warned, *quiet)[0], NOW + 2 * MINUTE + 29 * 40 * SECOND) == 0


def test_a_level_that_goes_on_is_signalled_again_but_not_with_every_event() -> None:
    _, signals = fold(*(turn(number, NOW + number * 5 * SECOND) for number in range(200)))
    assert 10 <= len(signals) <= 20
    ends = [signal.until_ms or 0 for signal in signals if signal.level is signals[-1].level]
    assert all(later - sooner >= SETTINGS.signal_again_seconds * SECOND for sooner, later in pairwise(ends))


def test_a_crash_between_the_table_and_the_signal_gives_the_signal_again() -> None:
    standing, _ = fold(blocked(1))
    counted = ladder.see_blocked(standing, "b2", NOW, SETTINGS)
    again = ladder.see_blocked(counted, "b2", NOW, SETTINGS)
    assert ladder.due(again, "acme", "ann", SETTINGS) == ladder.due(counted, "acme", "ann", SETTINGS) is not None


def test_what_was_lifted_does_not_count_again() -> None:
    standing, signals = fold(
        *(blocked(number) for number in range(6)),
        lambda known: ladder.lift(known, NOW + SECOND),
        blocked(3),
        blocked(7, NOW + SECOND),
        blocked(8, NOW + 2 * SECOND),
    )
    assert levels(signals)[-1] == "none"
    assert ladder.level_of(standing, NOW + 2 * SECOND) == 0
    assert ladder.lift(standing, NOW) == standing


def test_thresholds_must_rise() -> None:
    with pytest.raises(ValidationError, match="must rise"):
        Rungs(warn=5, slow=4)
    assert Rungs(slow=3).warn is None


# What is seen: a kind, the number of its turn (which fixes its time, as a turn's record always carries the same).
Seen = tuple[str, int]
MOMENTS = st.tuples(st.sampled_from(("blocked", "turn", "keys")), st.integers(0, 60))


def see(seen: Seen) -> See:
    kind, number = seen
    at_ms = NOW + number * 7 * SECOND
    if kind == "blocked":
        return blocked(number, at_ms)
    return turn(number, at_ms) if kind == "turn" else keys(number // 8, at_ms)


@given(seen=st.lists(MOMENTS, max_size=60))
def test_repetitions_change_nothing(seen: list[Seen]) -> None:
    in_order = sorted(set(seen), key=lambda one: one[1])
    once, signals = fold(*map(see, in_order))
    twice, again = fold(*(see(one) for one in in_order for _ in range(2)))
    assert twice == once
    assert again == signals
    # All of it once more, as after a crash before any commit.
    replayed = once
    for one in in_order:
        replayed = see(one)(replayed)
    assert replayed["until"] == once["until"]
    assert ladder.due(replayed, "acme", "ann", SETTINGS) is None


@given(seen=st.lists(MOMENTS, max_size=60, unique=True), more=MOMENTS)
def test_more_evidence_never_lowers_a_level(seen: list[Seen], more: Seen) -> None:
    in_order = sorted(seen, key=lambda one: one[1])
    fewer, _ = fold(*map(see, in_order))
    with_more, _ = fold(*map(see, sorted({*seen, more}, key=lambda one: one[1])))
    assert all(later >= sooner for sooner, later in zip(fewer["until"], with_more["until"], strict=True))


@given(seen=st.lists(MOMENTS, max_size=60))
def test_ends_only_grow_and_higher_rungs_end_first(seen: list[Seen]) -> None:
    standing = ladder.new_standing()
    for one in seen:
        before = standing["until"]
        standing = see(one)(standing)
        assert all(later >= sooner for sooner, later in zip(before, standing["until"], strict=True))
        assert standing["until"] == sorted(standing["until"], reverse=True)


@given(seen=st.lists(MOMENTS, max_size=60))
def test_a_level_falls_only_after_its_time(seen: list[Seen]) -> None:
    """No flapping: from one signal to the next the level is lower only if the signalled end has passed."""
    _, signals = fold(*map(see, sorted(seen, key=lambda one: one[1])))
    for one, following in pairwise(signals):
        if LEVELS.index(following.level) < LEVELS.index(one.level):
            assert one.until_ms is not None
            assert following.signalled_at_ms >= one.until_ms
        assert (following.level is AbuseLevel.NONE) == (following.until_ms is None)
