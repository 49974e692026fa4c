"""Answers on a fake ASGI channel: what is written when, and what becomes of a turn that is left."""

import asyncio
import os
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from consumers.sse.core import SseSettings
from schemas import ids
from schemas.errors import OutcomeUnknown, server_error
from schemas.events import Turn
from schemas.ports import AnswerForm, Outgoing
from schemas.topics import TOKENS, TURNS_CANCELLED
from tests.support.memory_log import MemoryLog, MemoryProducer
from tests.support.written_client import WrittenClient
from tests.unit.ingest.edge_world import HOME, SSE, FakeMetrics, Stages, live_turns, make_answers, pass_time, until

NOW_MS = 1_700_000_000_000


class Edge:
    """The answering side alone."""

    def __init__(self, settings: SseSettings) -> None:
        self.log = MemoryLog()
        producer = self.log.producer()
        self.metrics = FakeMetrics()
        self.started: list[str] = []
        self.turns = live_turns(self.log, producer, settings, self.metrics)
        self.answers = make_answers(self.turns, producer, settings, self.started.append)

    def turn(self, *, stored: bool = False, seconds: int = 60) -> Turn:
        return Turn(
            turn_id=ids.new_turn_id(NOW_MS, HOME[0], os.urandom(8)),
            conversation_id=ids.new_conversation_id(NOW_MS, bytes(10)),
            starts_conversation=True,
            stored=stored,
            model="turnstream-fast",
            submitted_at_ms=NOW_MS,
            deadline_ms=NOW_MS + seconds * 1000,
        )

    def write(self, turn: Turn, client: WrittenClient, *, stream: bool = True) -> Coroutine[Any, Any, None]:
        """The whole response to a turn that is about to be submitted."""
        reader = self.turns.open(turn.turn_id)
        return self.answers.answer(turn, reader, client.channel, AnswerForm(stream=stream))

    @asynccontextmanager
    async def answering(self, turn: Turn, client: WrittenClient, *, stream: bool = True) -> AsyncIterator[Stages]:
        """The answer is being written inside the block, and is complete after it."""
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(self.answers.run())
            await until(self.turns.ready)
            writing = tasks.create_task(self.write(turn, client, stream=stream))
            yield Stages(self.log, turn)
            await asyncio.wait([writing])
            await until(lambda: self.turns.state(turn.turn_id) is None)
            running.cancel()


async def test_nothing_is_written_before_the_head_is_decided() -> None:
    edge, client = Edge(SSE.model_copy(update={"heartbeat_seconds": 0.01})), WrittenClient()
    async with edge.answering(edge.turn(), client) as stages:
        assert client.messages == []
        stages.clear()
        await until(lambda: b": ping" in client.body)
        stages.say("x")
        stages.finish()
    assert client.status == 200
    assert client.body.endswith(b"data: [DONE]\n\n")


async def test_many_events_are_one_write() -> None:
    edge, client = Edge(SSE), WrittenClient()
    async with edge.answering(edge.turn(), client) as stages:
        stages.clear()
        stages.say(*"many small pieces")
        stages.finish()
    assert len(client.messages) == 2


async def test_whoever_brings_the_events_writes_them_while_the_client_keeps_up() -> None:
    edge, client = Edge(SSE), WrittenClient()
    async with edge.answering(edge.turn(), client) as stages:
        stages.clear()
        await until(lambda: b'"role"' in client.body)
        stages.say("a", "b")
        await until(lambda: b'"content":"b"' in client.body)
        assert len(client.pieces) == 1
        client.behind = True
        stages.say("c")
        await until(lambda: b'"content":"c"' in client.body)
        client.behind = False
        stages.say("d")
        await until(lambda: b'"content":"d"' in client.body)
        stages.finish()
    assert [b'"content":"c"' in piece for piece in client.pieces] == [False, False]
    assert client.body.endswith(b"data: [DONE]\n\n")


async def test_an_error_of_one_answer_ends_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    edge, client, other = Edge(SSE), WrittenClient(), WrittenClient()

    def fail(_piece: bytes) -> None:
        raise KeyError

    monkeypatch.setattr(client, "write_piece", fail)
    async with edge.answering(edge.turn(), other) as theirs:
        turn = edge.turn()
        writing = asyncio.ensure_future(edge.write(turn, client))
        stages = Stages(edge.log, turn)
        stages.clear()
        await until(lambda: b'"role"' in client.body)
        stages.say("a")
        with pytest.raises(KeyError):
            await writing
        theirs.clear()
        theirs.say("b")
        theirs.finish()
    assert other.body.endswith(b"data: [DONE]\n\n")


async def test_done_waits_for_history_to_have_the_turn() -> None:
    edge, client = Edge(SSE), WrittenClient()
    async with edge.answering(edge.turn(stored=True), client) as stages:
        stages.clear()
        stages.finish()
        await until(lambda: b'"finish_reason":"stop"' in client.body)
        assert not client.ended
        stages.persist()
    assert client.body.endswith(b"data: [DONE]\n\n")


async def test_a_turn_that_fails_as_it_is_cleared_has_its_true_status() -> None:
    edge, client = Edge(SSE), WrittenClient()
    async with edge.answering(edge.turn(), client) as stages:
        stages.clear()
        stages.fail(server_error("No.", "no"))
    assert client.status == 500
    assert b"[DONE]" not in client.body


async def test_text_before_the_clearance_is_not_lost() -> None:
    # Clearance and deltas come from different producers; a broker may let the second overtake the first.
    edge, client = Edge(SSE), WrittenClient()
    async with edge.answering(edge.turn(), client) as stages:
        late = Stages(MemoryLog(), stages.turn)
        late.clear()
        cleared, fence = late.log.records(TOKENS.name)
        edge.log.put(TOKENS.name, fence.key, fence.value, partition=HOME[0])
        stages.say("early")
        await until(lambda: (state := edge.turns.state(stages.turn.turn_id)) is not None and state.next_seq == 1)
        edge.log.put(TOKENS.name, cleared.key, cleared.value, partition=HOME[0])
        stages.finish()
    assert b'"content":"early"' in client.body


async def test_a_turn_past_its_deadline_is_504() -> None:
    edge, client = Edge(SSE.model_copy(update={"deadline_grace_seconds": 0})), WrittenClient()
    async with edge.answering(edge.turn(seconds=0), client) as stages:
        stages.clear()
    assert client.status == 504


async def test_an_answer_that_has_begun_ends_with_an_error_at_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    edge, client = Edge(SSE.model_copy(update={"deadline_grace_seconds": 1000.0})), WrittenClient()
    async with edge.answering(edge.turn(seconds=0), client) as stages:
        stages.clear()
        stages.say("x")
        await until(lambda: b'"content":"x"' in client.body)
        pass_time(monkeypatch, 1000)
    assert (client.status, client.ended) == (200, True)
    assert b'"turn_timeout"' in client.body
    assert b"[DONE]" not in client.body
    assert edge.metrics.counts["turnstream_unterminated_turns_total", (("seen_by", "edge"),)] == 1
    told = (("code", "turn_timeout"), ("status", "504"))
    assert edge.metrics.counts["turnstream_stream_errors_total", told] == 1


async def test_an_answer_too_long_to_hold_is_500() -> None:
    edge, client = Edge(SSE.model_copy(update={"answer_chars_max": 3})), WrittenClient()
    async with edge.answering(edge.turn(), client, stream=False) as stages:
        stages.clear()
        stages.say("four")
    assert client.status == 500
    assert b"answer_too_long" in client.body


async def test_an_abandoned_turn_that_ends_in_its_grace_is_not_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    edge, client = Edge(SSE.model_copy(update={"abandon_grace_seconds": 1000.0})), WrittenClient()
    async with edge.answering(edge.turn(), client) as stages:
        stages.clear()
        client.leave()
        await until(lambda: not edge.turns.followed(stages.turn.turn_id))
        stages.finish()
        await until(lambda: (state := edge.turns.state(stages.turn.turn_id)) is not None and state.terminal is not None)
        pass_time(monkeypatch, 1000)
    assert edge.log.records(TURNS_CANCELLED.name) == []


async def test_beyond_its_limit_abandoned_turns_have_no_grace() -> None:
    limits = {"abandon_grace_seconds": 1000.0, "abandoned_turns_max": 0}
    edge, client = Edge(SSE.model_copy(update=limits)), WrittenClient()
    async with edge.answering(edge.turn(), client) as stages:
        stages.clear()
        client.leave()
    assert len(edge.log.records(TURNS_CANCELLED.name)) == 1


class NoHints(MemoryProducer):
    async def append(self, records: Sequence[Outgoing]) -> Sequence[int]:
        if records[0].topic == TURNS_CANCELLED.name:
            raise OutcomeUnknown("timed out")
        return await super().append(records)


async def test_a_lost_hint_does_not_undo_a_cancellation() -> None:
    edge = Edge(SSE)
    await make_answers(edge.turns, NoHints(edge.log), SSE).cancel(edge.turn().turn_id, "client")
    assert len(edge.log.records(TOKENS.name)) == 1


async def test_a_drain_waits_for_open_answers_and_no_longer() -> None:
    edge, client = Edge(SSE), WrittenClient()
    await edge.answers.drain(10)
    async with edge.answering(edge.turn(stored=True), client) as stages:
        stages.clear()
        await until(lambda: bool(client.messages))
        await edge.answers.drain(0.01)
    assert b'"server_shutting_down"' in client.body
    assert b"[DONE]" not in client.body
    assert edge.log.records(TURNS_CANCELLED.name) == []
