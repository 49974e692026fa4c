"""The sink on stores in memory: what is written, in which order, and what happens when a store fails."""

import asyncio
from collections.abc import Sequence

import pytest

from consumers.cassandra_sink.core import CassandraSinkSettings
from consumers.cassandra_sink.ports import ContextUpdate
from consumers.cassandra_sink.rows import ConversationRow, MessageRow, TitleRow, TurnRow
from consumers.cassandra_sink.stage import run_repayments
from schemas.content import Content
from schemas.errors import Retryable
from schemas.events import FinishReason
from schemas.headers import REPLAY
from schemas.ids import message_seq
from schemas.messages import Message, Role
from schemas.ports import StoredMessage
from schemas.tokens import Persisted, TokenEvent
from tests.support.answer_records import (
    PARTITION,
    answer,
    cancelled,
    cleared,
    delta,
    failed,
    fence,
    finished,
    refused,
    turn_id_of,
)
from tests.support.memory_stores import MemoryContexts, MemoryRows
from tests.unit.sink.sink_world import Sink


async def test_a_finished_turn_leaves_its_pair_of_messages_and_its_conversation() -> None:
    sink = Sink()
    await sink.take(*answer(1, "Hel", "lo"))
    question, reply = sink.rows.messages()
    assert (question.role, question.status, question.message_seq) == (Role.USER, "complete", message_seq(0, 1, 0))
    assert (reply.role, reply.content, reply.status) == (Role.ASSISTANT, Content("Hello"), "complete")
    assert (reply.message_seq, reply.finish_reason) == (message_seq(0, 1, 1), FinishReason.STOP)
    assert (reply.prompt_tokens, reply.completion_tokens, reply.model) == (7, 2, "model")
    assert [row.last_turn_id for row in sink.rows.conversations()] == [turn_id_of(1)]


async def test_persisted_names_the_answer_and_comes_after_rows_and_context() -> None:
    steps: list[str] = []

    class Rows(MemoryRows):
        async def write(
            self,
            messages: Sequence[MessageRow],
            conversations: Sequence[ConversationRow],
            turns: Sequence[TurnRow] = (),
            titles: Sequence[TitleRow] = (),
        ) -> None:
            await super().write(messages, conversations, turns, titles)
            steps.extend(row.status for row in messages if row.role is Role.ASSISTANT)

    class Contexts(MemoryContexts):
        async def refresh(self, updates: Sequence[ContextUpdate], doubtful: Sequence[str]) -> None:
            await super().refresh(updates, doubtful)
            steps.append(f"context of {len(updates)}")
            assert sink.log.appended == []

    sink = Sink(rows=Rows())
    sink.contexts = Contexts()
    sink.restart()
    await sink.take(*answer(1, "x"))
    assert steps == ["complete", "context of 1"]
    assert sink.log.appended == [Persisted(turn_id=turn_id_of(1), message_seq=message_seq(0, 1, 1))]


async def test_a_turn_with_several_messages_counts_them_before_the_answer() -> None:
    sink = Sink()
    await sink.take(cleared(1, inputs=3), fence(1), delta(1, 0, "x"), finished(1, 1))
    assert [row.message_seq for row in sink.rows.messages()] == [message_seq(0, 1, i) for i in range(4)]
    assert [event.message_seq for event in sink.log.appended if isinstance(event, Persisted)] == [message_seq(0, 1, 3)]


async def test_a_stateless_turn_leaves_nothing_and_holds_nothing() -> None:
    sink = Sink()
    await sink.take(cleared(1, stored=False), fence(1), delta(1, 0, "x"))
    assert sink.safe() == sink.read
    await sink.take(delta(1, 1, "y"), finished(1, 2))
    assert (sink.rows.messages(), sink.log.appended, sink.safe()) == ([], [], sink.read)


async def test_a_refused_turn_leaves_nothing_and_holds_nothing() -> None:
    sink = Sink()
    await sink.take(refused(1))
    assert (sink.rows.messages(), sink.log.appended, sink.safe()) == ([], [], 1)
    await sink.take(cleared(1))
    assert (sink.rows.messages(), sink.safe()) == ([], 2)


async def test_a_marked_replay_is_not_stored() -> None:
    sink = Sink()
    sink.log.add(*answer(1, "x"), headers=((REPLAY, b"1"),))
    await sink.sink.write(sink.log.between(0, 4))
    assert (sink.rows.messages(), sink.log.appended) == ([], [])


@pytest.mark.parametrize(
    ("end", "status", "reason"),
    [
        (finished(1, 1), "complete", FinishReason.STOP),
        (finished(1, 1, reason=FinishReason.CONTENT_FILTER), "complete", FinishReason.CONTENT_FILTER),
        (finished(1, 1, reason=FinishReason.CANCELLED), "incomplete", FinishReason.CANCELLED),
        (failed(1), "incomplete", FinishReason.FAILED),
        (cancelled(1), "incomplete", FinishReason.CANCELLED),
    ],
)
async def test_how_an_answer_with_text_ends(end: TokenEvent, status: str, reason: FinishReason) -> None:
    sink = Sink()
    await sink.take(cleared(1), fence(1), delta(1, 0, "half"), end)
    question, reply = sink.rows.messages()
    assert (question.status, reply.status, reply.finish_reason) == ("complete", status, reason)
    assert len(sink.log.appended) == 1


@pytest.mark.parametrize("end", [failed(1), cancelled(1)])
async def test_a_question_without_an_answer_stays_visible_but_incomplete(end: TokenEvent) -> None:
    sink = Sink()
    sink.contexts.warm("c1")
    await sink.take(cleared(1), fence(1), end)
    assert sink.statuses() == [(Role.USER, "question 1.0", "incomplete")]
    (known,) = sink.contexts.hot["c1"].values()
    assert not known.complete, "the next turn comes after it, no prompt shows it"
    assert len(sink.log.appended) == 1


async def test_a_blocked_answer_without_text_is_an_answer() -> None:
    sink = Sink()
    await sink.take(cleared(1), fence(1), finished(1, 0, reason=FinishReason.CONTENT_FILTER))
    assert sink.statuses() == [(Role.USER, "question 1.0", "complete"), (Role.ASSISTANT, "", "complete")]


async def test_drafts_show_the_turn_at_once_and_then_at_the_interval() -> None:
    sink = Sink(CassandraSinkSettings(draft_interval_ms=100))
    await sink.take(cleared(1))
    assert sink.statuses() == [(Role.USER, "question 1.0", "streaming")]
    await sink.take(fence(1), delta(1, 0, "a"))
    assert len(sink.rows.messages()) == 1
    sink.log.now_ms += 100
    await sink.take(delta(1, 1, "b"))
    assert sink.statuses()[1] == (Role.ASSISTANT, "ab", "streaming")
    await sink.take(finished(1, 2))
    assert sink.statuses()[1] == (Role.ASSISTANT, "ab", "complete")
    assert sink.metrics.counts["turnstream_messages_written_total", "complete"] == 2
    assert sink.metrics.counts["turnstream_messages_written_total", "streaming"] == 2


async def test_a_late_draft_of_another_member_does_not_undo_the_end() -> None:
    shared = MemoryRows()
    zombie, owner = Sink(CassandraSinkSettings(draft_interval_ms=0), shared), Sink(rows=shared)
    await zombie.take(cleared(1), fence(1), delta(1, 0, "x"))
    await owner.take(*answer(1, "x", "y"))
    await zombie.take(delta(1, 1, "y"))
    assert owner.statuses()[1] == (Role.ASSISTANT, "xy", "complete")


async def test_a_second_attempt_goes_on_with_the_text_of_the_first() -> None:
    sink = Sink()
    await sink.take(cleared(1), fence(1), delta(1, 0, "on"))
    await sink.take(fence(1, 2, "b"), delta(1, 1, "LOST"), delta(1, 1, "ce", 2, "b"), finished(1, 2, 2, "b"))
    assert sink.statuses()[1] == (Role.ASSISTANT, "once", "complete")


async def test_a_failed_write_is_repeated_whole_and_changes_nothing_twice() -> None:
    sink = Sink()
    sink.log.add(*answer(1, "x", "y"))
    sink.rows.fail(2, rows_before=1)
    for _ in range(2):
        with pytest.raises(Retryable):
            await sink.sink.write(sink.log.between(0, 5))
        assert sink.log.appended == []
        assert sink.sink.safe_position(PARTITION, 0) == 0
    await sink.sink.write(sink.log.between(0, 5))
    assert [row.status for row in sink.rows.messages()] == ["complete", "complete"]
    assert len(sink.log.appended) == 1


async def test_an_unknown_append_is_repeated() -> None:
    sink = Sink()
    sink.log.lose_acks = 1
    sink.log.add(*answer(1, "x"))
    with pytest.raises(Retryable):
        await sink.sink.write(sink.log.between(0, 4))
    await sink.sink.write(sink.log.between(0, 4))
    assert len(sink.log.appended) == 2
    assert sink.sink.safe_position(PARTITION, 4) == 4


async def test_the_position_stays_behind_the_oldest_unfinished_turn() -> None:
    sink = Sink()
    await sink.take(cleared(1), cleared(2), fence(1), fence(2))
    assert sink.safe() == 0
    await sink.take(finished(1, 0))
    assert sink.safe() == 1
    await sink.take(finished(2, 0))
    assert sink.safe() == sink.read


async def test_a_restart_reads_unfinished_turns_again_and_skips_persisted_ones() -> None:
    sink = Sink()
    await sink.take(cleared(1), *answer(2, "x"), fence(1), delta(1, 0, "he"))
    written = sink.rows.writes
    sink.restart()
    await sink.take(delta(1, 1, "y"), finished(1, 2))
    persisted = [event.turn_id for event in sink.log.appended if isinstance(event, Persisted)]
    assert persisted == [turn_id_of(2), turn_id_of(1)]
    assert sink.statuses()[1] == (Role.ASSISTANT, "hey", "complete")
    assert sink.rows.writes == written + 2


async def test_a_forgotten_partition_is_not_revived_by_a_write_in_flight() -> None:
    started, proceed = asyncio.Event(), asyncio.Event()

    class Rows(MemoryRows):
        async def write(
            self,
            messages: Sequence[MessageRow],
            conversations: Sequence[ConversationRow],
            turns: Sequence[TurnRow] = (),
            titles: Sequence[TitleRow] = (),
        ) -> None:
            started.set()
            await proceed.wait()
            await super().write(messages, conversations, turns, titles)

    sink = Sink(rows=Rows())
    async with asyncio.TaskGroup() as group:
        group.create_task(sink.take(cleared(1)))
        await started.wait()
        sink.sink.forget(frozenset((PARTITION,)))
        proceed.set()
    assert sink.sink.safe_position(PARTITION, 1) == 1


async def test_a_hot_context_is_extended_by_a_whole_turn_only_while_it_exists() -> None:
    sink = Sink()
    sink.contexts.warm("c1")
    await sink.take(*answer(1, "x"), *answer(2, "y", conversation="c2"))
    assert list(sink.contexts.hot) == ["c1"]
    assert sink.contexts.seqs("c1") == [message_seq(0, 1, 0), message_seq(0, 1, 1)]


def stored(seq: int) -> StoredMessage:
    return StoredMessage(seq, "t", Message(role=Role.USER, content=Content("old")), complete=True, created_at_ms=0)


async def test_a_cache_that_fails_does_not_keep_answers_back_but_owes_its_contexts() -> None:
    sink = Sink()
    sink.contexts.warm("c1", [stored(1)])
    sink.contexts.down = True
    await sink.take(*answer(1, "x"))
    assert len(sink.log.appended) == 1
    assert sink.safe() == 0
    sink.contexts.down = False
    await sink.sink.repay_contexts()
    assert "c1" not in sink.contexts.hot
    assert sink.safe() == sink.read


async def test_a_debt_is_paid_before_the_context_is_extended_again() -> None:
    sink = Sink()
    sink.contexts.warm("c1", [stored(1)])
    sink.contexts.down = True
    await sink.take(*answer(1, "x"))
    sink.contexts.down = False
    await sink.take(*answer(2, "y"))
    assert "c1" not in sink.contexts.hot


async def test_a_debt_survives_the_process() -> None:
    sink = Sink()
    sink.contexts.warm("c1", [stored(1)])
    sink.contexts.down = True
    await sink.take(*answer(1, "x"))
    sink.contexts.down = False
    sink.restart()
    await sink.take()
    assert "c1" not in sink.contexts.hot
    assert len(sink.log.appended) == 1


async def test_a_debt_survives_a_second_life_in_which_the_cache_is_still_down() -> None:
    sink = Sink()
    sink.contexts.warm("c1", [stored(1)])
    sink.contexts.down = True
    await sink.take(*answer(1, "x"))
    sink.restart()
    await sink.take()
    assert sink.safe() == 0
    sink.contexts.down = False
    await sink.sink.repay_contexts()
    assert ("c1" in sink.contexts.hot, sink.safe()) == (False, sink.read)


async def test_repayments_go_on_until_they_are_stopped() -> None:
    stop = asyncio.Event()

    class Contexts(MemoryContexts):
        async def refresh(self, updates: Sequence[ContextUpdate], doubtful: Sequence[str]) -> None:
            self.down = self.calls < 3
            await super().refresh(updates, doubtful)
            stop.set()

    sink = Sink(CassandraSinkSettings(context_retry_ms=1))
    sink.contexts = Contexts()
    sink.restart()
    sink.contexts.warm("c1", [stored(1)])
    await sink.take(*answer(1, "x"))
    assert sink.safe() == 0
    await run_repayments(sink.sink, sink.settings, stop)
    assert (sink.contexts.calls, sink.contexts.hot) == (4, {})
    assert sink.safe() == sink.read


async def test_persistence_is_measured_from_the_terminal() -> None:
    sink = Sink()
    await sink.take(*answer(1, "x"))
    # The double of the producer moves time on by one record.
    assert sink.metrics.observed["turnstream_persist_seconds"] == [pytest.approx(0.006)]
