from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from consumers.cassandra_sink.core import CassandraSinkSettings
from consumers.cassandra_sink.rebuild import RebuildAnswers
from consumers.cassandra_sink.restored import (
    MARGINS_MS,
    Deletions,
    RestoredRows,
    above_us,
    is_above,
    next_above,
    restored_rows,
)
from consumers.cassandra_sink.rows import Rank
from consumers.cassandra_sink.turns import TextBounds, fold, opened_by
from schemas.errors import Retryable
from schemas.ids import new_conversation_id
from schemas.ports import Owner
from schemas.tokens import Cleared, Persisted, TokenEvent
from tests.support.answer_records import (
    PARTITION,
    START_MS,
    AnswerRecords,
    answer,
    cancelled,
    cleared,
    delta,
    fence,
    finished,
    turn_id_of,
)
from tests.support.memory_stores import MemoryContexts
from tests.unit.sink.sink_world import RecordsReader

NOW_MS = START_MS + 86_400_000
HOUR_MS = 3_600_000


@dataclass
class MemoryRestore:
    """``RestoreStore`` of which every row lies under a deletion made at ``tombstone_us``; all else is remembered."""

    tombstone_us: int = 0
    states: dict[str, Deletions] = field(default_factory=dict)
    written: dict[tuple[str, int | str], int] = field(default_factory=dict)
    writes: list[RestoredRows] = field(default_factory=list)
    deleted_again: list[tuple[str, Deletions, int]] = field(default_factory=list)
    owned: list[tuple[str, int, int]] = field(default_factory=list)
    failures_left: int = 0
    on_write: Callable[[], None] = lambda: None

    async def deletions(self, conversation_id: str) -> Deletions:
        return self.states.get(conversation_id, Deletions())

    async def own(self, owner: Owner, conversation_id: str, created_at_ms: int, written_us: int) -> None:
        assert owner == Owner("tenant", "user")
        self.owned.append((conversation_id, created_at_ms, written_us))
        if written_us > self.tombstone_us:
            self.states[conversation_id] = Deletions()

    async def write(self, rows: RestoredRows) -> None:
        if self.failures_left:
            self.failures_left -= 1
            raise Retryable("the rows were told to fail")
        self.writes.append(rows)
        for message in rows.messages:
            self._write(("message", message.message_seq), message.written_us)
        for turn in rows.turns:
            self._write(("turn", turn.turn_id), turn.written_us)
        self.on_write()

    def _write(self, key: tuple[str, int | str], written_us: int) -> None:
        self.written[key] = max(self.written.get(key, 0), written_us)

    async def unreadable(self, rows: RestoredRows) -> RestoredRows:
        return replace(
            rows,
            messages=tuple(row for row in rows.messages if self._hidden(("message", row.message_seq))),
            turns=tuple(row for row in rows.turns if self._hidden(("turn", row.turn_id))),
            listed=(),
            conversation=None,
            title=None,
        )

    def _hidden(self, key: tuple[str, int | str]) -> bool:
        return self.written.get(key, 0) <= self.tombstone_us

    async def delete_again(self, conversation_id: str, deletions: Deletions, now_ms: int) -> None:
        self.deleted_again.append((conversation_id, deletions, now_ms))


class World:
    """A rebuild over one partition."""

    def __init__(self, settings: CassandraSinkSettings | None = None) -> None:
        self.log = AnswerRecords()
        self.reader = RecordsReader(self.log)
        self.store = MemoryRestore()
        self.contexts = MemoryContexts()
        self.settings = settings or CassandraSinkSettings()

    def begin(self, *, restore_owners: bool = False) -> RebuildAnswers:
        """A rebuild of all that is on the log by now."""
        return RebuildAnswers(
            store=self.store,
            contexts=self.contexts,
            log=self.reader,
            settings=self.settings,
            stops={PARTITION: len(self.log.records)},
            now_ms=lambda: NOW_MS,
            restore_owners=restore_owners,
        )

    async def give(self, answers: RebuildAnswers, start: int = 0, stop: int | None = None) -> None:
        stop = len(self.log.records) if stop is None else stop
        await answers.act(await self.reader.read_range(PARTITION, start, stop))

    async def rebuild(self) -> dict[str, int]:
        answers = self.begin()
        await self.give(answers)
        return dict(answers.counts())

    def texts(self) -> list[str]:
        """What was written first of each message, in order."""
        return [row.content.text for rows in self.store.writes for row in rows.messages]


async def test_turns_are_written_once_whether_or_not_the_log_says_that_they_were_stored() -> None:
    world = World()
    world.log.add(*answer(1, "a"), Persisted(turn_id=turn_id_of(1), message_seq=1), *answer(2, "b"))
    counts = await world.rebuild()
    assert sorted(world.texts()) == ["a", "b", "question 1.0", "question 2.0"]
    assert (counts["turns"], counts["conversations"], counts["rows_above_a_deletion"]) == (2, 1, 0)
    assert world.log.appended == []


async def test_a_run_that_goes_on_in_the_middle_of_a_turn_reads_its_beginning_again() -> None:
    world = World()
    world.log.add(*answer(1, "a", "b", "c"))
    await world.give(world.begin(), 0, 3)
    assert world.store.writes == []
    await world.give(world.begin(), 3)
    assert world.texts() == ["question 1.0", "abc"]


@pytest.mark.parametrize("age_ms", [2 * HOUR_MS, 30 * 60_000, 3 * 60_000, 30_000, 100])
async def test_rows_under_a_deletion_are_written_above_it_as_early_as_they_can(age_ms: int) -> None:
    world = World()
    world.store.tombstone_us = (NOW_MS - age_ms) * 1000
    world.log.add(*answer(1, "a"), *answer(2, "b", conversation="c2"))
    counts = await world.rebuild()
    assert (counts["rows_above_a_deletion"], counts["rows_not_restored"]) == (6, 0)
    margin_ms = next(margin for margin in MARGINS_MS if margin < age_ms)
    assert set(world.store.written.values()) == {above_us(NOW_MS, margin_ms)}


async def test_a_deletion_of_the_future_is_told() -> None:
    world = World()
    world.store.tombstone_us = (NOW_MS + 5) * 1000
    world.log.add(*answer(1, "a"))
    assert (await world.rebuild())["rows_not_restored"] == 3


async def test_whoever_deletes_while_rows_are_written_above_has_his_way() -> None:
    world = World()
    world.store.tombstone_us = (NOW_MS - 100) * 1000
    gone = Deletions(conversation=True)

    def delete() -> None:
        world.store.states["c1"] = gone

    world.store.on_write = delete
    world.log.add(*answer(1, "a"))
    await world.rebuild()
    assert world.store.deleted_again == [("c1", gone, NOW_MS)]


async def test_what_users_deleted_and_what_nobody_owns_is_counted_and_not_written() -> None:
    world = World()
    world.store.states = {"c1": Deletions(conversation=True), "c2": Deletions(known=False)}
    world.log.add(*answer(1, "a"), *answer(2, "b", conversation="c2"), *answer(3, "c", conversation="c3"))
    counts = await world.rebuild()
    assert world.texts() == ["question 3.0", "c"]
    assert (counts["turns"], counts["turns_left_deleted"], counts["turns_without_owner"]) == (1, 1, 1)


@pytest.mark.parametrize("tombstone_us", [0, (NOW_MS - 100_000) * 1000])
async def test_owners_are_restored_where_that_is_asked_for(tombstone_us: int) -> None:
    world = World()
    world.store.tombstone_us = tombstone_us
    conversation = new_conversation_id(START_MS - 5, bytes(10))
    world.store.states = {conversation: Deletions(known=False), "c2": Deletions(known=False, conversation=True)}
    world.log.add(*answer(1, "a", conversation=conversation), *answer(2, "b", conversation="c2"))
    answers = world.begin(restore_owners=True)
    await world.give(answers)
    assert (answers.counts()["owners"], answers.counts()["turns"], answers.counts()["turns_left_deleted"]) == (1, 1, 1)
    assert world.store.owned[0] == (conversation, START_MS - 5, (START_MS - 5) * 1000)
    assert world.store.owned[-1][2] > tombstone_us


async def test_a_store_that_fails_leaves_the_batch_to_be_given_again_and_counted_once() -> None:
    world = World()
    world.log.add(*answer(1, "a"), *answer(2, "b", conversation="c2"))
    answers = world.begin()
    world.store.failures_left = 1
    with pytest.raises(Retryable):
        await world.give(answers)
    await world.give(answers)
    assert answers.counts()["turns"] == 2
    assert set(world.store.written) == {
        *(("message", row.message_seq) for rows in world.store.writes for row in rows.messages),
        *(("turn", turn_id_of(number)) for number in (1, 2)),
    }


async def test_contexts_are_dropped_after_the_rows_and_a_cache_that_fails_is_not_passed_over() -> None:
    world = World()
    world.log.add(*answer(1, "a"))
    world.contexts.warm("c1")
    world.contexts.down = True
    answers = world.begin()
    with pytest.raises(Retryable):
        await world.give(answers)
    assert len(world.store.writes) == 1
    world.contexts.down = False
    await world.give(answers)
    assert "c1" not in world.contexts.hot


async def test_turns_beyond_the_bounds_are_read_to_their_end() -> None:
    world = World(CassandraSinkSettings(turns_held_max=1))
    world.log.add(cleared(1), fence(1), cleared(2, conversation="c2"), fence(2))
    world.log.add(delta(2, 0, "b"), finished(2, 1), delta(1, 0, "a"), finished(1, 1))
    answers = world.begin()
    await world.give(answers, 0, 4)
    assert world.texts() == ["question 1.0", "a"]
    await world.give(answers, 4)
    assert world.texts()[:4] == ["question 1.0", "a", "question 2.0", "b"]


async def test_a_turn_that_never_ended_is_written_as_the_sink_gave_it_up_and_a_young_one_is_not() -> None:
    world = World()
    world.log.add(cleared(1), fence(1), delta(1, 0, "half"))
    world.log.add(*answer(2, "b", conversation="c2"), at_ms=START_MS + 901_000)
    world.log.add(cleared(3, conversation="c3"), fence(3), delta(3, 0, "running"))
    counts = await world.rebuild()
    statuses = {row.content.text: row.status for rows in world.store.writes for row in rows.messages}
    assert (statuses["half"], statuses["b"], "running" in statuses) == ("incomplete", "complete", False)
    assert counts["turns_in_progress"] == 1


async def test_a_cancelled_turn_is_written_as_it_was() -> None:
    world = World()
    world.log.add(cleared(1), fence(1), delta(1, 0, "half"), cancelled(1))
    await world.rebuild()
    assert [row.status for row in world.store.writes[0].messages] == ["complete", "incomplete"]


def test_times_above_a_deletion_are_no_times_of_the_sink_and_lie_before_now() -> None:
    for margin_ms in MARGINS_MS:
        time_us = above_us(NOW_MS, margin_ms)
        assert is_above(time_us)
        assert (NOW_MS - margin_ms - 1) * 1000 < time_us < (NOW_MS - margin_ms) * 1000
    assert all(not is_above(START_MS * 1000 + 4 * deltas + rank) for deltas in range(9) for rank in Rank)
    assert [next_above(us) for us in (0, 3, 4, 7)] == [7, 7, 11, 11]


def test_deleted_answers_are_not_listed_and_deleted_messages_are_known() -> None:
    log = AnswerRecords()
    events: list[TokenEvent] = answer(1, "a")
    log.add(*events)
    turn = fold(opened_by(log.records[0]), log.records, TextBounds(1_000, 10))
    opening = events[0]
    assert isinstance(opening, Cleared)
    deletions = Deletions(messages={opening.message_seq: 5, 99: 6}, turns=frozenset({turn_id_of(1), "other"}))
    rows = restored_rows([(turn, opening, Rank.ENDED)], deletions)
    assert rows.deleted_ms == {opening.message_seq: 5}
    assert (rows.listed, rows.deleted_turns) == ((), frozenset({turn_id_of(1)}))
    assert len(rows.turns) == 1
