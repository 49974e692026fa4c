"""Stores answers: folds ``chat.tokens.v1`` into Cassandra and the hot contexts, then says ``persisted`` on the log.

Order of effects per batch: final rows, hot contexts, the end of the active turns, ``Persisted``, drafts. Whoever waits
for ``Persisted`` (the edge, before ``[DONE]``) finds the answer in the history and in the next prompt, and may begin
the next turn.

**When the cache fails.** Redis must not keep an answer from being persisted, and a hot context that lacks the answer
must not reach a prompt. So a failed refresh becomes a debt: the answer is persisted, the conversation's context is to
be dropped (a missing context is rebuilt from Cassandra, so dropping is always right), and until that is confirmed the
partition's position stays behind the turn: a restarted sink meets the turn again and drops the context then. Debts are
repaid with the next batch and by ``run_repayments`` every ``context_retry_ms``. What remains: a prompt stage that
reaches a Redis which this process does not reach may see the old context until the debt is repaid.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog
from redis.asyncio import Redis

from consumers.cassandra_sink.cassandra_rows import CassandraRows
from consumers.cassandra_sink.core import CassandraSinkSettings, PartitionTurns, Plan
from consumers.cassandra_sink.ports import ContextUpdate, ConversationRows, HotContexts
from consumers.cassandra_sink.recovery import TurnRecovery
from consumers.cassandra_sink.redis_contexts import RedisContexts
from consumers.cassandra_sink.rows import (
    Rank,
    TitleRow,
    answer_row,
    conversation_row,
    message_rows,
    stored_messages,
    turn_row,
)
from consumers.cassandra_sink.titles import title_row
from consumers.cassandra_sink.turns import HeldTurn
from consumers.records import by_partition
from schemas.errors import Retryable
from schemas.ports import ActiveTurns, LogReader, Metrics, Outgoing, Producer, Received, TopicPartition, WritingCql
from schemas.serde import encode, event_headers
from schemas.tokens import Cleared, Persisted, TokenEvent
from schemas.topics import TOKENS

_log: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Work:
    """The plan of one partition, and the state that it came from."""

    partition: TopicPartition
    turns: PartitionTurns
    plan: Plan


class PersistAnswers:
    """The ``LogSink`` of the tokens topic. ``now_ms`` gives Unix milliseconds, for the persistence metric alone."""

    def __init__(
        self,
        *,
        rows: ConversationRows,
        contexts: HotContexts,
        active: ActiveTurns,
        log: LogReader,
        producer: Producer,
        metrics: Metrics,
        settings: CassandraSinkSettings,
        now_ms: Callable[[], int],
    ) -> None:
        self._rows = rows
        self._contexts = contexts
        self._active = active
        self._recovery = TurnRecovery(log, settings)
        self._producer = producer
        self._metrics = metrics
        self._settings = settings
        self._now_ms = now_ms
        self._partitions: dict[TopicPartition, PartitionTurns] = {}
        # One refresh at a time, or a repayment could cancel a debt that arose after its own look at the cache.
        self._refreshing = asyncio.Lock()

    async def write(self, batch: Sequence[Received[TokenEvent]]) -> None:
        """Store what ``batch`` ends, show what it continues. Raises Retryable: the same batch is given again."""
        works = await self._plan(batch)
        refreshed = await self._carry_out([work for work in works if work.plan.has_effects])
        for work in works:
            # A partition that was taken away during the effects has no state here any more.
            if self._partitions.get(work.partition) is work.turns:
                self._keep(work, contexts_refreshed=refreshed)

    def safe_position(self, partition: TopicPartition, position: int) -> int:
        """The first offset of the oldest turn that still needs work, at most ``position``."""
        turns = self._partitions.get(partition)
        return position if turns is None else turns.safe_position(position)

    def forget(self, partitions: frozenset[TopicPartition]) -> None:
        """Drop the turns of partitions that were taken away: their next owner reads them again."""
        for partition in partitions:
            self._partitions.pop(partition, None)

    async def repay_contexts(self) -> None:
        """Drop the hot contexts that are still owed. Raises Retryable while the cache does not answer."""
        async with self._refreshing:
            debts = {turns: turns.owed() for turns in self._partitions.values()}
            await self._contexts.refresh((), _distinct(debts.values()))
            for turns, owed in debts.items():
                turns.repaid(owed)

    async def _carry_out(self, works: Sequence[_Work]) -> bool:
        """Whether the hot contexts could be refreshed; all else is done."""
        if not works:
            return True
        await self._write_final(works)
        refreshed = await self._refresh(works)
        await self._end_active(works)
        await self._announce(works)
        await self._write_drafts(works)
        return refreshed

    async def _plan(self, batch: Sequence[Received[TokenEvent]]) -> list[_Work]:
        works: list[_Work] = []
        for partition, records in by_partition(batch).items():
            turns = self._partitions.get(partition)
            if turns is None:
                turns = self._partitions[partition] = PartitionTurns(self._settings)
            works.append(_Work(partition, turns, await self._recovery.plan(turns, records)))
        return works

    async def _write_final(self, works: Sequence[_Work]) -> None:
        ended = [(turn, cleared, Rank.ENDED) for work in works for turn, cleared in _cleared(work.plan.ended)]
        given_up = [(turn, cleared, Rank.GIVEN_UP) for work in works for turn, cleared in _cleared(work.plan.given_up)]
        final = (*ended, *given_up)
        messages = [row for turn in final for row in message_rows(*turn)]
        turns = [turn_row(turn, cleared) for turn, cleared, _ in ended]
        await self._rows.write(messages, [conversation_row(*turn) for turn in final], turns, _titles(final))
        for row in messages:
            self._metrics.count("turnstream_messages_written_total", status=row.status)

    async def _write_drafts(self, works: Sequence[_Work]) -> None:
        drafts = [pair for work in works for pair in _cleared(work.plan.drafts)]
        first = [(turn, cleared) for turn, cleared in drafts if turn.drafted_ms is None]
        again = [(turn, cleared) for turn, cleared in drafts if turn.drafted_ms is not None]
        messages = [row for turn, cleared in first for row in message_rows(turn, cleared, Rank.DRAFT)]
        messages.extend(answer_row(turn, cleared, Rank.DRAFT) for turn, cleared in again)
        shown = [(turn, cleared, Rank.DRAFT) for turn, cleared in first]
        await self._rows.write(messages, [conversation_row(*turn) for turn in shown], (), _titles(shown))
        self._metrics.count("turnstream_messages_written_total", len(messages), status="streaming")

    async def _refresh(self, works: Sequence[_Work]) -> bool:
        # Those without an answer too: the next turn comes after what the context shows as the newest message.
        ended = [pair for work in works for pair in _cleared(work.plan.ended)]
        replayed = [cleared.conversation_id for work in works for _, cleared in _cleared(work.plan.replayed)]
        if not ended and not replayed:
            return True
        updates = [update for pair in ended if (update := _context_update(*pair)).messages]
        async with self._refreshing:
            # Debts first: a context that lacks an older message must not be extended as if it were whole.
            owed = {turns: turns.owed() for turns in self._partitions.values()}
            try:
                await self._contexts.refresh(updates, _distinct((replayed, *owed.values())))
            except Retryable as error:
                _log.warning("hot_contexts_owed", conversations=len(updates) + len(replayed), reason=str(error))
                return False
            for turns, debts in owed.items():
                turns.repaid(debts)
        return True

    async def _end_active(self, works: Sequence[_Work]) -> None:
        # The replayed too: auth may have been given their records again, and noted them again, since they ended.
        over = [cleared for work in works for _, cleared in _cleared((*work.plan.ended, *work.plan.replayed))]
        if over:
            await self._active.end({cleared.turn_id: cleared.conversation_id for cleared in over})

    async def _announce(self, works: Sequence[_Work]) -> None:
        ended = [(work.partition, *pair) for work in works for pair in _cleared(work.plan.ended)]
        if not ended:
            return
        await self._producer.append([_persisted(*turn) for turn in ended])
        for _, turn, _ in ended:
            self._metrics.observe("turnstream_persist_seconds", max(0, self._now_ms() - turn.last_ms) / 1000)

    def _keep(self, work: _Work, *, contexts_refreshed: bool) -> None:
        forgotten = work.turns.keep(work.plan, contexts_refreshed=contexts_refreshed)
        place = {"topic": work.partition.topic, "partition": work.partition.partition}
        for turn, cleared in _cleared(work.plan.given_up):
            _log.warning("turn_given_up", turn_id=cleared.turn_id, first_offset=turn.first_offset, **place)
        if work.plan.overdue:
            self._metrics.count("turnstream_unterminated_turns_total", work.plan.overdue, seen_by="sink")
        if work.plan.dropped:
            _log.warning("turns_dropped_at_bound", turns=work.plan.dropped, **place)
        if forgotten:
            _log.warning("hot_contexts_forgotten_at_bound", conversations=forgotten, **place)


def persist_answers(
    *,
    cql: WritingCql,
    redis: Redis,
    active: ActiveTurns,
    log: LogReader,
    producer: Producer,
    metrics: Metrics,
    settings: CassandraSinkSettings,
    now_ms: Callable[[], int],
) -> PersistAnswers:
    """The sink over Cassandra and Redis."""
    contexts = RedisContexts(redis, settings)
    return PersistAnswers(
        rows=CassandraRows(cql),
        contexts=contexts,
        active=active,
        log=log,
        producer=producer,
        metrics=metrics,
        settings=settings,
        now_ms=now_ms,
    )


async def run_repayments(sink: PersistAnswers, settings: CassandraSinkSettings, stop: asyncio.Event) -> None:
    """Repay owed hot contexts every ``context_retry_ms`` until ``stop``; run it beside the sink's loop."""
    while not stop.is_set():
        try:
            await sink.repay_contexts()
        except Retryable as error:
            _log.debug("hot_contexts_still_owed", reason=str(error))
        try:
            await asyncio.wait_for(stop.wait(), settings.context_retry_ms / 1000)
        except TimeoutError:
            continue


def _distinct(groups: Iterable[Sequence[str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(conversation_id for group in groups for conversation_id in group))


def _cleared(turns: Sequence[HeldTurn]) -> list[tuple[HeldTurn, Cleared]]:
    return [(turn, turn.state.cleared) for turn in turns if turn.state.cleared is not None]


def _titles(turns: Sequence[tuple[HeldTurn, Cleared, Rank]]) -> list[TitleRow]:
    return [row for _, cleared, _ in turns if (row := title_row(cleared)) is not None]


def _context_update(turn: HeldTurn, cleared: Cleared) -> ContextUpdate:
    return ContextUpdate(cleared.conversation_id, stored_messages(message_rows(turn, cleared, Rank.ENDED)))


def _persisted(partition: TopicPartition, turn: HeldTurn, cleared: Cleared) -> Outgoing:
    event = Persisted(turn_id=cleared.turn_id, message_seq=cleared.answer_seq)
    return Outgoing(
        topic=TOKENS.name,
        key=cleared.turn_id.encode(),
        value=encode(event),
        headers=event_headers(TOKENS, cleared.turn_id, turn.traceparent),
        partition=partition.partition,
    )
