"""Whatever the batches, restarts and failures of the cache: the same rows, and no stale hot context."""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.cassandra_sink.core import CassandraSinkSettings
from consumers.cassandra_sink.pieces import NO_PIECES
from consumers.cassandra_sink.rows import ConversationRow, MessageRow, TurnRow
from schemas.stream_state import INITIAL, StreamState, advance
from schemas.tokens import Delta, Finished, Persisted, TokenEvent
from tests.support.answer_records import (
    cancelled,
    cleared,
    delta,
    failed,
    fence,
    finished,
    turn_id_of,
)
from tests.unit.sink.sink_world import Sink

CONVERSATIONS = ("c0", "c1")
TURNS_MAX = 4
LATER = 999
SETTINGS = CassandraSinkSettings(draft_interval_ms=2, recovery_batch_records_max=3)
HELD_MS_MAX = SETTINGS.turn_held_seconds_max * 1000


@dataclass(frozen=True)
class Step:
    """How the sink meets the next records: how many, and whether it dies or loses its cache before them."""

    records: int
    restart: bool
    cache_down: bool


@st.composite
def turn_events(draw: st.DrawFn, number: int) -> list[TokenEvent]:
    """One turn with zombies and duplicates, ended for certain."""
    stored = draw(st.booleans()) or draw(st.booleans())
    events: list[TokenEvent] = [cleared(number, stored=stored, conversation=CONVERSATIONS[number % 2])]
    seq = 0
    attempts = draw(st.integers(1, 3))
    for attempt in range(1, attempts + 1):
        owner = f"o{attempt}"
        events.append(fence(number, attempt, owner))
        for _ in range(draw(st.integers(0, 3))):
            events.append(delta(number, seq, f"<{number}.{seq}>", attempt, owner))
            seq += 1
        if draw(st.booleans()):
            events.append(draw(st.sampled_from(events)))
        if attempt > 1 and draw(st.booleans()):
            events.append(delta(number, seq, "ZOMBIE", attempt - 1, f"o{attempt - 1}"))
    ends: tuple[TokenEvent, ...] = (finished(number, seq, attempts, f"o{attempts}"), failed(number), cancelled(number))
    return [*events, draw(st.sampled_from(ends)), *draw(st.lists(st.sampled_from(events), max_size=2))]


@st.composite
def histories(draw: st.DrawFn) -> list[TokenEvent]:
    """The interleaved records of a few turns."""
    queues = [draw(turn_events(number)) for number in range(draw(st.integers(1, TURNS_MAX)))]
    merged: list[TokenEvent] = []
    while any(queues):
        queue = draw(st.sampled_from([queue for queue in queues if queue]))
        merged.append(queue.pop(0))
    return merged


steps = st.lists(st.builds(Step, st.integers(1, 9), st.booleans(), st.booleans()), max_size=12)
# From a sink that holds next to nothing to one that holds all.
bounds = st.builds(
    lambda turns, held_bytes, passed: SETTINGS.model_copy(
        update={"turns_held_max": turns, "held_bytes_max": held_bytes, "turns_passed_max": passed}
    ),
    st.integers(1, TURNS_MAX),
    st.sampled_from([1, 40, 10_000]),
    st.integers(1, TURNS_MAX),
)


class Run(Sink):
    """A sink reading one log to its end, its own ``persisted`` included."""

    def __init__(self, events: Sequence[TokenEvent], limits: CassandraSinkSettings = SETTINGS) -> None:
        super().__init__(limits)
        self.log.add(*events)
        for conversation in CONVERSATIONS:
            self.contexts.warm(conversation)

    async def step(self, step: Step) -> None:
        if step.restart:
            self.restart()
        self.contexts.down = step.cache_down
        await self.read_on(step.records)

    async def to_the_end(self) -> None:
        while self.read < len(self.log.records):
            await self.step(Step(len(self.log.records), restart=False, cache_down=False))
        # Late duplicates may have opened a turn that is over, or nobody's: its time passes.
        self.log.add(cleared(LATER, stored=False), at_ms=self.log.now_ms + HELD_MS_MAX + 1)
        await self.step(Step(1, restart=False, cache_down=False))
        await self.sink.repay_contexts()

    def outcome(self) -> tuple[list[MessageRow], list[ConversationRow], list[TurnRow]]:
        return self.rows.messages(), self.rows.conversations(), self.rows.turns()


async def run_through(
    events: Sequence[TokenEvent], plan: Sequence[Step], limits: CassandraSinkSettings = SETTINGS
) -> Run:
    run = Run(events, limits)
    for step in plan:
        await run.step(step)
    await run.to_the_end()
    return run


def expected_pieces(events: Sequence[TokenEvent]) -> dict[str, tuple[str, ...]]:
    """The pieces of ended, stored turns, straight from the reducer."""
    found: dict[str, tuple[str, ...]] = {}
    for number in range(TURNS_MAX):
        state, pieces = final_state(events, number)
        if state.cleared is not None and state.cleared.stored and state.terminal is not None:
            found[turn_id_of(number)] = pieces
    return found


def expected_texts(events: Sequence[TokenEvent]) -> dict[str, str]:
    """The texts of finished turns."""
    return {
        turn_id_of(number): "".join(expected_pieces(events)[turn_id_of(number)])
        for number in range(TURNS_MAX)
        if turn_id_of(number) in expected_pieces(events)
        and isinstance(final_state(events, number)[0].terminal, Finished)
    }


def final_state(events: Sequence[TokenEvent], number: int) -> tuple[StreamState, tuple[str, ...]]:
    state, pieces = INITIAL, list[str]()
    for event in events:
        following = state if getattr(event, "turn_id", None) != turn_id_of(number) else advance(state, event)
        if following is not state and isinstance(event, Delta):
            pieces.append(event.content.text)
        state = following
    return state, tuple(pieces)


@settings(max_examples=150, deadline=None)
@given(events=histories(), plan=steps, limits=bounds)
def test_batches_restarts_bounds_and_cache_failures_do_not_change_the_rows(
    events: list[TokenEvent], plan: list[Step], limits: CassandraSinkSettings
) -> None:
    straight = asyncio.run(run_through(events, ()))
    disturbed = asyncio.run(run_through(events, plan, limits))
    assert disturbed.outcome() == straight.outcome()
    texts = {row.turn_id: row.content.text for row in disturbed.rows.messages() if row.prompt_tokens is not None}
    assert texts == expected_texts(events)
    persisted = {event.turn_id for event in disturbed.log.appended if isinstance(event, Persisted)}
    assert persisted == {row.turn_id for row in disturbed.rows.messages()} == set(disturbed.active.ended)


@settings(max_examples=100, deadline=None)
@given(events=histories(), plan=steps, limits=bounds)
def test_a_stored_answer_has_the_pieces_that_the_log_has(
    events: list[TokenEvent], plan: list[Step], limits: CassandraSinkSettings
) -> None:
    run = asyncio.run(run_through(events, plan, limits))
    for turn_id, pieces in expected_pieces(events).items():
        stored = asyncio.run(run.rows.find(turn_id))
        assert stored is not None
        assert tuple(piece.text for piece in stored.pieces) == pieces


@settings(max_examples=100, deadline=None)
@given(events=histories(), plan=steps, limits=bounds)
def test_a_hot_context_is_whole_or_gone(
    events: list[TokenEvent], plan: list[Step], limits: CassandraSinkSettings
) -> None:
    run = asyncio.run(run_through(events, plan, limits))
    answered = [row for row in run.rows.messages() if row.role == "assistant"]
    for conversation, messages in run.contexts.hot.items():
        assert {row.message_seq for row in answered if row.conversation_id == conversation} <= set(messages)
    assert run.safe() == run.read


@given(batches=st.lists(st.lists(st.text(max_size=3), max_size=4), max_size=40))
def test_pieces_are_what_was_appended_however_it_came(batches: list[list[str]]) -> None:
    pieces = NO_PIECES
    for batch in batches:
        pieces = pieces.and_then(batch)
    together = [piece for batch in batches for piece in batch]
    assert (pieces.text, pieces.chars, len(pieces)) == ("".join(together), tuple(map(len, together)), len(together))
    assert len(pieces.chunks) <= 1 + math.log2(1 + len(together) + len(pieces.text))
