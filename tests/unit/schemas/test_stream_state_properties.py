"""The fence reducer under thousands of interleavings, and proof that the checker would notice a broken one."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import stream_state
from schemas.stream_state import INITIAL, StreamState, advance
from schemas.tokens import AttemptStarted, Cleared, Delta, Finished, Persisted, Refused, Terminal, TokenEvent
from tests.support.fence_checker import violations
from tests.support.fence_simulation import Action, Landing, Step, Turn, accepted_text, fold, random_program

Counts = Callable[[StreamState, TokenEvent], bool]

# Pure computing, some seconds of it: on a busy machine that takes a while.
pytestmark = pytest.mark.timeout(90)

SEEDS = range(21_000)

programs = st.lists(
    st.builds(Step, st.sampled_from(Action), st.integers(0, 3), st.sampled_from(Landing)), min_size=1, max_size=60
)


def run(program: list[Step]) -> Turn:
    turn = Turn(advance)
    turn.run(program)
    return turn


def test_every_promise_holds_in_thousands_of_interleavings() -> None:
    attempts_max = 0
    for seed in SEEDS:
        turn = run(random_program(seed))
        assert violations(turn) == [], f"seed {seed}"
        attempts_max = max(attempts_max, fold(advance, turn.log).attempt)
    assert attempts_max > 3, "the programs never made owners compete"


@settings(max_examples=300, deadline=None)
@given(programs)
def test_every_promise_holds_in_shrinkable_interleavings(program: list[Step]) -> None:
    assert violations(run(program)) == []


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 100_000), st.lists(st.integers(1, 20), max_size=20))
def test_readers_agree_whatever_their_batches(seed: int, sizes: list[int]) -> None:
    log = run(random_program(seed)).log
    state, position = INITIAL, 0
    for size in (*sizes, len(log)):
        state = fold(advance, log[position : position + size], state)
        position += size
    assert state == fold(advance, log)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 100_000), st.data())
def test_a_text_once_shown_is_never_taken_back(seed: int, data: st.DataObject) -> None:
    log = run(random_program(seed)).log
    seen = data.draw(st.integers(0, len(log)))
    assert accepted_text(advance, log).startswith(accepted_text(advance, log[:seen]))


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 100_000))
def test_advance_returns_the_same_object_exactly_when_the_event_does_not_count(seed: int) -> None:
    state = INITIAL
    for event in run(random_program(seed)).log:
        after = advance(state, event)
        assert (after is not state) == stream_state.counts(state, event)
        assert (after == state) == (after is state)
        state = after


def without_seq(state: StreamState, event: TokenEvent) -> bool:
    if isinstance(event, Delta) and state.terminal is None:
        return state.owned_by(event.attempt, event.owner)
    return ORIGINAL(state, event)


def without_seq_of_finished(state: StreamState, event: TokenEvent) -> bool:
    if isinstance(event, Finished) and state.terminal is None:
        return event.attempt == state.attempt or state.next_seq > 0
    return ORIGINAL(state, event)


def without_owner(state: StreamState, event: TokenEvent) -> bool:
    if isinstance(event, Delta) and state.terminal is None:
        return event.seq == state.next_seq
    return ORIGINAL(state, event)


def without_attempt(state: StreamState, event: TokenEvent) -> bool:
    if isinstance(event, Delta) and state.terminal is None:
        return event.owner == state.owner and event.seq == state.next_seq
    return ORIGINAL(state, event)


def any_fence(state: StreamState, event: TokenEvent) -> bool:
    if isinstance(event, AttemptStarted) and state.terminal is None:
        return True
    return ORIGINAL(state, event)


def equal_fence(state: StreamState, event: TokenEvent) -> bool:
    if isinstance(event, AttemptStarted) and state.terminal is None:
        return event.attempt >= state.attempt
    return ORIGINAL(state, event)


def deltas_after_terminal(state: StreamState, event: TokenEvent) -> bool:
    return ORIGINAL(state._replace(terminal=None) if isinstance(event, Delta) else state, event)


def second_terminal(state: StreamState, event: TokenEvent) -> bool:
    return isinstance(event, Terminal) or ORIGINAL(state, event)


def second_persisted(state: StreamState, event: TokenEvent) -> bool:
    return isinstance(event, Persisted) or ORIGINAL(state, event)


def refused_after_cleared(state: StreamState, event: TokenEvent) -> bool:
    if isinstance(event, Refused):
        return state.terminal is None
    return ORIGINAL(state, event)


def second_clearance(state: StreamState, event: TokenEvent) -> bool:
    if isinstance(event, Cleared):
        return state.terminal is None
    return ORIGINAL(state, event)


ORIGINAL: Counts = stream_state.counts
MUTANTS: tuple[Counts, ...] = (
    without_seq,
    without_seq_of_finished,
    without_owner,
    without_attempt,
    any_fence,
    equal_fence,
    deltas_after_terminal,
    second_terminal,
    second_persisted,
    refused_after_cleared,
    second_clearance,
)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_broken_reducer_is_caught(mutant: Counts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_state, "counts", mutant)
    assert any(violations(run(random_program(seed))) for seed in SEEDS)
