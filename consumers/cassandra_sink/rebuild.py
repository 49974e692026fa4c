"""Writes again what the stores should have, from ``chat.tokens.v1`` alone: the sink without its announcements.

The records of whole turns, in log order, are folded by the code of the sink (``core``). What ended is written, read
back, and written above whatever deletion hides it, unless a user asked for that deletion. Nothing is appended to the
log. The hot contexts of what was written are dropped: the next prompt reads the history, which is what they would hold.

A turn that has not ended is left to the live sink: neither its draft nor its running turn is touched.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from typing import Final, Protocol

from consumers.cassandra_sink.core import CassandraSinkSettings, PartitionTurns, Plan
from consumers.cassandra_sink.ports import HotContexts
from consumers.cassandra_sink.recovery import TurnRecovery
from consumers.cassandra_sink.restored import (
    MARGINS_MS,
    Deletions,
    Ended,
    RestoredRows,
    above_us,
    created_at_ms,
    restored_rows,
)
from consumers.cassandra_sink.rows import Rank
from consumers.cassandra_sink.turns import HeldTurn
from consumers.records import by_partition, live, receive_all
from schemas.at_once import at_once
from schemas.errors import Malformed
from schemas.ports import LogReader, Owner, Record, TopicPartition
from schemas.topics import TOKENS

CONVERSATIONS_IN_FLIGHT_MAX: Final = 16


class RestoreStore(Protocol):
    """The durable rows, as a rebuild needs them."""

    async def deletions(self, conversation_id: str) -> Deletions:
        """What users deleted of the conversation. Raises Retryable."""
        ...

    async def own(self, owner: Owner, conversation_id: str, created_at_ms: int, written_us: int) -> None:
        """Say whose the conversation is, at the time ``written_us``. Raises Retryable."""
        ...

    async def write(self, rows: RestoredRows) -> None:
        """Write the rows of one conversation and hide again what is deleted of them. Raises Retryable."""
        ...

    async def unreadable(self, rows: RestoredRows) -> RestoredRows:
        """Those of ``rows`` that are not there as they are here. Raises Retryable."""
        ...

    async def delete_again(self, conversation_id: str, deletions: Deletions, now_ms: int) -> None:
        """Hide what was deleted while its rows were being written. Raises Retryable."""
        ...


@dataclass(frozen=True, slots=True)
class RebuildCounts:
    """What a rebuild did. The last three are for an operator to look at."""

    turns: int = 0
    conversations: int = 0
    owners: int = 0
    rows: int = 0
    rows_above_a_deletion: int = 0
    turns_left_deleted: int = 0
    turns_in_progress: int = 0
    turns_without_owner: int = 0
    rows_not_restored: int = 0

    def plus(self, other: "RebuildCounts") -> "RebuildCounts":
        """Both together."""
        mine, theirs = astuple(self), astuple(other)
        return RebuildCounts(*(a + b for a, b in zip(mine, theirs, strict=True)))


class RebuildAnswers:
    """Give it records of ``chat.tokens.v1`` in order per partition (``act``).

    ``stops``: per partition the offset at which the rebuild ends. ``now_ms`` gives Unix milliseconds. With
    ``restore_owners`` a conversation that nobody owns is given to whom its turns name; without, it is passed over.
    """

    def __init__(
        self,
        *,
        store: RestoreStore,
        contexts: HotContexts,
        log: LogReader,
        settings: CassandraSinkSettings,
        stops: Mapping[TopicPartition, int],
        now_ms: Callable[[], int],
        restore_owners: bool = False,
    ) -> None:
        self._store = store
        self._contexts = contexts
        self._recovery = TurnRecovery(log, settings)
        self._settings = settings
        self._stops = stops
        self._now_ms = now_ms
        self._restore_owners = restore_owners
        self._partitions: dict[TopicPartition, PartitionTurns] = {}
        self._slots = asyncio.Semaphore(CONVERSATIONS_IN_FLIGHT_MAX)
        self._margin = 0
        self._counts = RebuildCounts()
        self._conversations: set[str] = set()

    def counts(self) -> Mapping[str, int]:
        """What was done so far, by name."""
        in_progress = sum(turns.held for turns in self._partitions.values())
        done = replace(self._counts, turns_in_progress=in_progress, conversations=len(self._conversations))
        return asdict(done)

    async def act(self, records: Sequence[Record]) -> None:
        """Restore what ``records``, the next of their partitions, end. Raises Retryable; may be given them again."""
        received = [each for each in receive_all(TOKENS, live(records)) if not isinstance(each, Malformed)]
        for partition, batch in by_partition(received).items():
            turns = self._partitions.setdefault(partition, PartitionTurns(self._settings))
            plan = await self._recovery.plan(turns, batch)
            ended = [(turn, Rank.ENDED) for turn in (*plan.ended, *plan.replayed)]
            await self._restore(_cleared([*ended, *await self._given_up(partition, plan)]))
            turns.keep(plan, contexts_refreshed=True)

    async def _given_up(self, partition: TopicPartition, plan: Plan) -> list[tuple[HeldTurn, Rank]]:
        """Turns beyond the bounds as the rest of the log has them: ended, never to end, or still in progress."""
        ids = [turn.state.cleared.turn_id for turn in plan.given_up if turn.state.cleared is not None]
        if not ids:
            return []
        found = await self._recovery.find(partition, ids, self._stops[partition])
        overdue_ms = plan.log_time_ms - self._settings.turn_held_seconds_max * 1000
        ranks: list[tuple[HeldTurn, Rank]] = []
        for turn in found.values():
            if turn is not None and turn.ended:
                ranks.append((turn, Rank.ENDED))
            elif turn is not None and turn.opened_ms < overdue_ms:
                ranks.append((turn, Rank.GIVEN_UP))
        return ranks

    async def _restore(self, ended: Sequence[Ended]) -> None:
        by_conversation: dict[tuple[Owner, str], list[Ended]] = {}
        for each in ended:
            cleared = each[1]
            owner = Owner(cleared.tenant_id, cleared.user_id)
            by_conversation.setdefault((owner, cleared.conversation_id), []).append(each)
        restored = await at_once(self._restore_conversation(*place, turns) for place, turns in by_conversation.items())
        await self._contexts.refresh((), [conversation_id for _, conversation_id in by_conversation])
        # Once all of it is done: what is given again is not counted twice.
        for (_, conversation_id), counts in zip(by_conversation, restored, strict=True):
            self._counts = self._counts.plus(counts)
            if counts.turns:
                self._conversations.add(conversation_id)

    async def _restore_conversation(self, owner: Owner, conversation_id: str, ended: Sequence[Ended]) -> RebuildCounts:
        async with self._slots:
            # Taken before it is asked what is deleted: whatever is deleted later wins over what is written here.
            asked_ms = self._now_ms()
            deletions = await self._store.deletions(conversation_id)
            if deletions.conversation:
                return RebuildCounts(turns_left_deleted=len(ended))
            owners = 0
            if not deletions.known:
                if not (self._restore_owners and await self._own(owner, conversation_id, ended, asked_ms)):
                    return RebuildCounts(turns_without_owner=len(ended))
                owners = 1
            rows = restored_rows(ended, deletions)
            await self._store.write(rows)
            hidden = await self._store.unreadable(rows)
            counts = RebuildCounts(turns=len(ended), rows=rows.count, owners=owners)
            if hidden.count:
                counts = counts.plus(await self._write_above(hidden, asked_ms))
                await self._delete_again(conversation_id, deletions)
        return counts

    async def _own(self, owner: Owner, conversation_id: str, ended: Sequence[Ended], asked_ms: int) -> bool:
        """Give the conversation to ``owner``; whether it can be read that it is theirs now."""
        created_ms = created_at_ms(conversation_id, min(cleared.submitted_at_ms for _, cleared, _ in ended))
        for written_us in (created_ms * 1000, *(above_us(asked_ms, margin_ms) for margin_ms in MARGINS_MS)):
            await self._store.own(owner, conversation_id, created_ms, written_us)
            found = await self._store.deletions(conversation_id)
            if found.known:
                return not found.conversation
        return False

    async def _write_above(self, hidden: RestoredRows, asked_ms: int) -> RebuildCounts:
        wanted = hidden.count
        for step in range(self._margin, len(MARGINS_MS)):
            await self._store.write(hidden.above(above_us(asked_ms, MARGINS_MS[step])))
            hidden = await self._store.unreadable(hidden)
            if not hidden.count:
                break
            # One deletion is as old for its other rows.
            self._margin = max(self._margin, min(step + 1, len(MARGINS_MS) - 1))
        return RebuildCounts(rows_above_a_deletion=wanted - hidden.count, rows_not_restored=hidden.count)

    async def _delete_again(self, conversation_id: str, before: Deletions) -> None:
        """Whoever began to delete before the rows were written above, and noted it after, has his way."""
        after = await self._store.deletions(conversation_id)
        if after != before:
            await self._store.delete_again(conversation_id, after, self._now_ms())


def _cleared(turns: Sequence[tuple[HeldTurn, Rank]]) -> list[Ended]:
    return [(turn, turn.state.cleared, rank) for turn, rank in turns if turn.state.cleared is not None]
