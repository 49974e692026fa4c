"""One owner, a quiet world: what a turn becomes on the log."""

import asyncio
from collections.abc import AsyncGenerator, Sequence

import pytest

from consumers.inference.core import InferenceSettings
from consumers.inference.failures import PrefixUnsupported
from schemas import headers, serde
from schemas.content import Content
from schemas.errors import Malformed, Retryable
from schemas.events import Decision, FinishReason, InferenceRequested, ModerationDecided, TurnCancelled
from schemas.ports import Generated, Pile
from schemas.tokens import AttemptStarted, Cancelled, Delta, Failed, Finished
from schemas.topics import MODERATION_DECISIONS, TOKENS, TURNS_CANCELLED, USAGE_EVENTS
from tests.unit.inference.inference_fakes import (
    NOW_MS,
    TURN_ID,
    WORDS,
    FakeBackend,
    FakePolicy,
    World,
    make_request,
    receive,
    settled,
)


async def test_a_turn_is_fenced_answered_finished_and_billed() -> None:
    world = World()
    await world.stage()(receive())
    events = world.log.tokens()
    assert isinstance(events[0], AttemptStarted)
    assert events[0].attempt == 1
    assert isinstance(events[-1], Finished)
    assert events[-1].finish_reason is FinishReason.STOP
    assert world.log.answer().text == "".join(WORDS)
    [bill] = world.log.bills()
    assert bill.usage.completion_tokens == len(WORDS)
    assert bill.usage.prompt_tokens == 7
    assert bill.finish_reason is FinishReason.STOP
    assert world.metrics.counts["turnstream_turns_total", ("fast", "stop")] == 1
    assert world.metrics.counts["turnstream_tokens_total", ("fast", "completion")] == len(WORDS)
    assert world.metrics.gauges["turnstream_turns_in_flight"] == 0


async def test_the_bill_goes_after_the_terminal_that_it_is_for() -> None:
    world = World()
    await world.stage()(receive())
    *_, terminal, bill = (record for records in world.log.appends for record in records)
    assert (terminal.topic, bill.topic) == (TOKENS.name, USAGE_EVENTS.name)
    assert isinstance(serde.decode_token(terminal.value), Finished)


def release(gate: asyncio.Semaphore, times: int) -> None:
    for _ in range(times):
        gate.release()


async def test_the_first_token_goes_at_once_and_the_rest_merges_behind_it() -> None:
    world = World()
    world.backend.gate = asyncio.Semaphore(1)
    async with asyncio.TaskGroup() as group:
        turn = group.create_task(world.stage()(receive()))
        await world.log.accepted(1, turn)
        world.log.gate = asyncio.Event()
        # Each word waits for the gate: all of them are spoken while the second append is in flight.
        speak = world.backend.gate
        world.log.before_append = lambda: release(speak, len(WORDS[2:]))
        speak.release()
        await settled(lambda: world.backend.spoken == len(WORDS))
        world.log.gate.set()
        world.log.before_append = None
        speak.release()
        await turn
    deltas = [event for event in world.log.tokens() if isinstance(event, Delta)]
    assert [delta.content.text for delta in deltas] == [WORDS[0], WORDS[1], "".join(WORDS[2:])]
    assert [delta.tokens for delta in deltas] == [1, 1, 6]


class PilingBackend(FakeBackend):
    """Says all at once, and tells its end only after that was taken."""

    over = False

    async def generate(
        self, request: InferenceRequested, prefix: str, _pile: Pile | None = None
    ) -> AsyncGenerator[Generated, None]:
        assert _pile is not None
        assert request.prompt.max_tokens
        assert not prefix
        self._taken = asyncio.Event()
        _pile.feed = self
        _pile.on_more()
        await self._taken.wait()
        yield Generated(text="", tokens=0, finish_reason="stop")

    def take(self) -> Sequence[Generated]:
        said = () if self.over else (Generated(text="all", tokens=3),)
        self.over = True
        self._taken.set()
        return said

    def pause(self) -> None: ...


async def test_the_last_text_leaves_with_the_end() -> None:
    world = World(backend=PilingBackend())
    await world.stage()(receive())
    appends = [[serde.decode_token(one.value).type for one in records] for records in world.log.appends[:-1]]
    assert appends == [["attempt_started"], ["delta", "finished"]]


async def test_a_long_piece_is_cut_into_deltas_of_bounded_size() -> None:
    world = World(backend=FakeBackend(words=("x" * 25,)))
    world.settings = InferenceSettings(delta_chars_max=10, beat_ms_max=0)
    await world.stage()(receive())
    deltas = [event for event in world.log.tokens() if isinstance(event, Delta)]
    assert [len(delta.content.text) for delta in deltas] == [10, 10, 5]
    assert sum(delta.tokens for delta in deltas) == 1


async def test_the_backend_is_not_read_further_than_the_buffer_while_the_log_is_slow() -> None:
    world = World(backend=FakeBackend(words=("12345",) * 100))
    world.settings = InferenceSettings(buffered_chars_max=20, beat_ms_max=0)
    world.log.gate = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        turn = group.create_task(world.stage()(receive(make_request(max_tokens=100))))
        await settled(lambda: world.backend.spoken > 4)
        for _ in range(100):
            await asyncio.sleep(0)
        assert world.backend.spoken == 5
        world.log.gate.set()
        await turn
    assert len(world.log.answer().text) == 500


async def test_the_budget_and_the_length_reason_reach_the_log() -> None:
    world = World(backend=FakeBackend(finish_reason="length"))
    await world.stage()(receive(make_request(max_tokens=3)))
    assert world.backend.budgets == [3]
    assert world.log.bills()[0].finish_reason is FinishReason.LENGTH
    assert world.log.answer().tokens == 3


async def test_a_turn_that_expired_in_the_queue_is_not_generated() -> None:
    world = World()
    await world.stage()(receive(make_request(deadline_ms=NOW_MS)))
    terminal = world.log.answer().state.terminal
    assert isinstance(terminal, Failed)
    assert (terminal.refusal.status, terminal.refusal.error.code) == (504, "deadline_exceeded")
    assert world.backend.prefixes == []
    [bill] = world.log.bills()
    assert (bill.finish_reason, bill.usage.prompt_tokens) == (FinishReason.FAILED, 0)


async def test_a_silent_backend_does_not_outlive_the_deadline() -> None:
    world = World(backend=FakeBackend(silent={0: 2}))
    await world.stage()(receive(make_request(deadline_ms=NOW_MS + 40)))
    answer = world.log.answer()
    assert isinstance(answer.state.terminal, Failed)
    assert answer.text == "".join(WORDS[:2])
    assert world.backend.open == 0
    assert world.log.bills()[0].usage.completion_tokens == 2


async def test_a_blocked_piece_is_never_sent() -> None:
    world = World(policy=FakePolicy(forbidden="w3 w4"))
    await world.stage()(receive())
    answer = world.log.answer()
    assert isinstance(answer.state.terminal, Finished)
    assert answer.state.terminal.finish_reason is FinishReason.CONTENT_FILTER
    assert "w4" not in answer.text
    [record] = world.log.memory.records(MODERATION_DECISIONS.name)
    decision = serde.decode(MODERATION_DECISIONS, record.value)
    assert isinstance(decision, ModerationDecided)
    assert (decision.decision, decision.categories) == (Decision.BLOCKED_OUTPUT, ("test",))


async def test_a_failing_backend_is_asked_again_from_the_last_token() -> None:
    world = World(backend=FakeBackend(faults={0: (2, Retryable("gone")), 1: (3, Retryable("gone"))}))
    await world.stage()(receive())
    assert world.backend.prefixes == ["", "".join(WORDS[:2]), "".join(WORDS[:5])]
    assert world.log.answer().text == "".join(WORDS)
    assert world.log.bills()[0].usage.completion_tokens == len(WORDS)
    assert world.log.answer().state.attempt == 1


async def test_a_dead_backend_ends_the_turn_within_bounds() -> None:
    world = World(backend=FakeBackend(faults={number: (0, Retryable("gone")) for number in range(99)}))
    await world.stage()(receive())
    terminal = world.log.answer().state.terminal
    assert isinstance(terminal, Failed)
    assert (terminal.refusal.status, terminal.refusal.error.code) == (503, "upstream_unavailable")
    assert 2 <= len(world.backend.prefixes) <= world.settings.generations_per_turn_max


@pytest.mark.parametrize(
    ("error", "code"),
    [(Malformed("no"), "upstream_rejected"), (PrefixUnsupported("no"), "continuation_unsupported")],
)
async def test_a_rejection_ends_the_turn_at_once_and_tells_no_cause(error: Malformed, code: str) -> None:
    world = World(backend=FakeBackend(faults={0: (0, error)}))
    await world.stage()(receive())
    terminal = world.log.answer().state.terminal
    assert isinstance(terminal, Failed)
    assert (terminal.refusal.status, terminal.refusal.error.code) == (502, code)
    assert len(world.backend.prefixes) == 1


async def test_a_backend_that_breaks_off_without_a_reason_is_a_failure() -> None:
    class Abrupt(FakeBackend):
        async def _before(self, number: int, index: int) -> None:
            await super()._before(number, index)
            if number == 0 and index == len(WORDS):
                raise Retryable("cut")

    world = World(backend=Abrupt())
    await world.stage()(receive())
    assert world.backend.prefixes == ["", "".join(WORDS)]
    assert isinstance(world.log.answer().state.terminal, Finished)


async def test_a_replayed_turn_is_neither_generated_nor_billed() -> None:
    world = World()
    await world.stage()(receive(headers=((headers.REPLAY, b"1"),)))
    assert world.log.appends == []
    assert world.backend.prefixes == []


async def test_a_cancelled_turn_is_closed_and_billed_for_what_was_accepted() -> None:
    world = World(backend=FakeBackend(silent={0: 3}))
    async with asyncio.TaskGroup() as group:
        listening = group.create_task(world.cancels.run())
        turn = group.create_task(world.stage()(receive()))
        await world.log.accepted(3, turn)
        world.log.write_token(Cancelled(turn_id=TURN_ID, reason="client"))
        world.hint()
        await turn
        listening.cancel()
    assert world.backend.open == 0
    [bill] = world.log.bills()
    assert (bill.finish_reason, bill.usage.completion_tokens) == (FinishReason.CANCELLED, 3)
    assert world.metrics.counts["turnstream_turns_total", ("fast", "cancelled")] == 1


async def test_a_hint_without_a_verdict_changes_nothing() -> None:
    world = World(backend=FakeBackend(gate=asyncio.Semaphore(3)))
    assert world.backend.gate is not None
    async with asyncio.TaskGroup() as group:
        listening = group.create_task(world.cancels.run())
        turn = group.create_task(world.stage()(receive()))
        await world.log.accepted(3, turn)
        world.hint()
        for _ in range(len(WORDS)):
            world.backend.gate.release()
        await turn
        listening.cancel()
    assert world.log.answer().text == "".join(WORDS)
    assert isinstance(world.log.answer().state.terminal, Finished)


async def test_hints_about_others_and_unreadable_hints_are_passed_over() -> None:
    world = World()
    heard: list[str] = []
    world.log.memory.put(TURNS_CANCELLED.name, b"x", b"{}")
    other = TurnCancelled(turn_id="other", reason="client")
    world.log.memory.put(TURNS_CANCELLED.name, b"x", serde.encode(other))
    world.hint()
    async with asyncio.TaskGroup() as group:
        world.cancels.watch(TURN_ID, lambda: heard.append("mine"))
        listening = group.create_task(world.cancels.run())
        await settled(lambda: bool(heard))
        listening.cancel()
    assert heard == ["mine"]


async def test_no_content_reaches_a_failure_text() -> None:
    request = make_request(text="my secret")
    assert "secret" not in repr(Content("my secret"))
    world = World(backend=FakeBackend(faults={0: (0, Malformed("my secret"))}))
    await world.stage()(receive(request))
    terminal = world.log.answer().state.terminal
    assert isinstance(terminal, Failed)
    assert "secret" not in terminal.refusal.error.message
