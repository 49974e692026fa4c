"""Whatever the batches, restarts and failures of the cache: the same rows, and no stale hot context."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.cassandra_sink.core import CassandraSinkSettings
from consumers.cassandra_sink.rows import ConversationRow, MessageRow
from consumers.cassandra_sink.stage import PersistAnswers
from schemas.stream_state import INITIAL, advance
from schemas.tokens import Delta, Finished, Persisted, TokenEvent
from tests.support.answer_records import (
    PARTITION,
    AnswerRecords,
    CountedMetrics,
    cancelled,
    cleared,
    delta,
    failed,
    fence,
    finished,
    turn_id_of,
)
from tests.support.memory_stores import MemoryContexts, MemoryRows

CONVERSATIONS = ("c0", "c1")
TURNS_MAX = 4
LATER = 999
SETTINGS = CassandraSinkSettings(draft_interval_ms=2)
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


class Run:
    """A sink reading one log to its end, its own ``persisted`` included."""

    def __init__(self, events: Sequence[TokenEvent]) -> None:
        self.log = AnswerRecords()
        self.log.add(*events)
        self.rows = MemoryRows()
        self.contexts = MemoryContexts()
        for conversation in CONVERSATIONS:
            self.contexts.warm(conversation)
        self.position = 0
        self.sink = self._new()

    def _new(self) -> PersistAnswers:
        return PersistAnswers(
            rows=self.rows,
            contexts=self.contexts,
            producer=self.log,
            metrics=CountedMetrics(),
            settings=SETTINGS,
            now_ms=lambda: 0,
        )

    async def step(self, step: Step) -> None:
        if step.restart:
            self.position = self.sink.safe_position(PARTITION, self.position)
            self.sink = self._new()
        self.contexts.down = step.cache_down
        end = min(len(self.log.records), self.position + step.records)
        await self.sink.write(self.log.between(self.position, end))
        self.position = end

    async def to_the_end(self) -> None:
        while self.position < len(self.log.records):
            await self.step(Step(len(self.log.records), restart=False, cache_down=False))
        # Late duplicates may have opened a turn that is over, or nobody's: its time passes.
        self.log.add(cleared(LATER, stored=False), at_ms=self.log.now_ms + HELD_MS_MAX + 1)
        await self.step(Step(1, restart=False, cache_down=False))
        await self.sink.repay_contexts()

    def outcome(self) -> tuple[list[MessageRow], list[ConversationRow]]:
        return self.rows.messages(), self.rows.conversations()


async def run_through(events: Sequence[TokenEvent], plan: Sequence[Step]) -> Run:
    run = Run(events)
    for step in plan:
        await run.step(step)
    await run.to_the_end()
    return run


def expected_texts(events: Sequence[TokenEvent]) -> dict[str, str]:
    """The texts of finished turns, straight from the reducer."""
    texts: dict[str, str] = {}
    for number in range(TURNS_MAX):
        state, text = INITIAL, ""
        for event in events:
            if getattr(event, "turn_id", None) != turn_id_of(number):
                continue
            following = advance(state, event)
            if following is not state and isinstance(event, Delta):
                text += event.content.text
            state = following
        if state.cleared is not None and state.cleared.stored and isinstance(state.terminal, Finished):
            texts[turn_id_of(number)] = text
    return texts


@settings(max_examples=100, deadline=None)
@given(events=histories(), plan=steps)
def test_batches_restarts_and_cache_failures_do_not_change_the_rows(events: list[TokenEvent], plan: list[Step]) -> None:
    straight = asyncio.run(run_through(events, ()))
    disturbed = asyncio.run(run_through(events, plan))
    assert disturbed.outcome() == straight.outcome()
    texts = {row.turn_id: row.content.text for row in disturbed.rows.messages() if row.prompt_tokens is not None}
    assert texts == expected_texts(events)
    persisted = {event.turn_id for event in disturbed.log.appended if isinstance(event, Persisted)}
    assert persisted == {row.turn_id for row in disturbed.rows.messages()}


@settings(max_examples=100, deadline=None)
@given(events=histories(), plan=steps)
def test_a_hot_context_is_whole_or_gone(events: list[TokenEvent], plan: list[Step]) -> None:
    run = asyncio.run(run_through(events, plan))
    answered = [row for row in run.rows.messages() if row.role == "assistant"]
    for conversation, messages in run.contexts.hot.items():
        assert {row.message_seq for row in answered if row.conversation_id == conversation} <= set(messages)
    assert run.sink.safe_position(PARTITION, run.position) == run.position
