"""Readers that begin late, come back or fall behind get exactly what a reader that was always there got."""

import asyncio
import os
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.sse.core import SseSettings, Step, StreamBroken, read_step
from consumers.sse.live_turns import LiveTurns
from schemas import ids, serde
from schemas.cursors import Cursor
from schemas.errors import Retryable
from schemas.events import Turn
from schemas.ports import AnswerReader, Placed
from schemas.tokens import Attached, AttemptStarted, Cleared, Delta, Persisted
from schemas.topics import TOKENS
from tests.support.memory_log import MemoryLog
from tests.unit.ingest.edge_world import HOME, SSE, FakeMetrics, Stages, live_turns, until
from tests.unit.sse.test_live_turns import kinds, live, make_turn, running
from tests.unit.sse.test_live_turns import texts as texts_of

ELSEWHERE = 2


def noise(log: MemoryLog, partition: int, records: int) -> None:
    for _ in range(records):
        log.put(TOKENS.name, b"foreign", b"not JSON", partition=partition)


async def read_all(reader: AnswerReader) -> list[Placed]:
    placed: list[Placed] = []
    while not placed or not isinstance(placed[-1].event, Persisted):
        placed += await reader.next_events(1)
    reader.close()
    return placed


def tell(stages: Stages, texts: Sequence[str], foreign: int = 0) -> None:
    """A whole turn, with records of others, a zombie's and a repeated one in between."""
    partition = ids.turn_partition(stages.turn.turn_id)
    noise(stages.log, partition, foreign)
    stages.clear()
    for text in texts:
        stages.say(text)
        noise(stages.log, partition, foreign)
        stages.put(AttemptStarted(turn_id=stages.turn.turn_id, attempt=1, owner="zombie"))
        last = next(
            r for r in reversed(stages.log.records(TOKENS.name)) if r.partition == partition and b'"delta"' in r.value
        )
        stages.put(Delta.model_validate_json(last.value))
    stages.finish()
    stages.persist()


@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(st.sampled_from(["a", "bc", "\u2028é", "😀"]), max_size=12),
    foreign=st.integers(0, 4),
    buffer=st.integers(1, 6),
    chunk=st.integers(1, 9),
    pauses=st.lists(st.booleans(), max_size=12),
    partition=st.sampled_from([HOME[0], ELSEWHERE]),
)
def test_a_reader_that_falls_behind_loses_and_repeats_nothing(
    *, texts: list[str], foreign: int, buffer: int, chunk: int, pauses: list[bool], partition: int
) -> None:
    async def run() -> None:
        log, turn = MemoryLog(), make_turn(partition)
        limits = SSE.model_copy(update={"buffer_events_max": buffer, "catch_up_records_max": chunk})
        async with running(live(log, limits)) as slow_edge, running(live(log)) as quick_edge:
            slow, quick = [await edge.follow(turn.turn_id) for edge in (slow_edge, quick_edge)]
            telling = asyncio.ensure_future(told(Stages(log, turn)))
            expected, found = await asyncio.gather(read_all(quick), read_slowly(slow))
            await telling
            # Read live, a plain delta has no model; what it means is the same.
            assert read_step(found, Step()) == read_step(expected, Step())
            assert [placed.offset for placed in found] == [placed.offset for placed in expected]
            assert texts_of(found) == texts

    async def told(stages: Stages) -> None:
        stages.clear()
        for text in texts:
            stages.say(text)
            noise(stages.log, partition, foreign)
            await asyncio.sleep(0)
        stages.finish()
        stages.persist()

    async def read_slowly(reader: AnswerReader) -> list[Placed]:
        placed: list[Placed] = []
        waits = iter(pauses)
        while not placed or not isinstance(placed[-1].event, Persisted):
            for _ in range(5 if next(waits, False) else 0):
                await asyncio.sleep(0)
            placed += await reader.next_events(1)
        reader.close()
        return placed

    asyncio.run(run())


@pytest.mark.parametrize("partition", [HOME[0], ELSEWHERE])
async def test_from_every_cursor_exactly_the_rest_follows(partition: int) -> None:
    log, turn = MemoryLog(), make_turn(partition)
    tell(Stages(log, turn), ["a", "b", "c", "d"], foreign=3)
    async with running(live(log, SSE.model_copy(update={"catch_up_records_max": 2}))) as turns:
        whole = await read_all(await turns.follow(turn.turn_id))
        cleared = whole[0].event
        assert isinstance(cleared, Cleared)
        begins = [index for index, placed in enumerate(whole) if isinstance(placed.event, Delta)]
        for seq, index in enumerate([*begins, len(whole) - 2]):
            cursor = Cursor(seq, whole[index].offset)
            rest = await read_all(await turns.follow(turn.turn_id, cleared=cleared, cursor=cursor))
            assert rest == whole[index:]
    assert len(begins) == 4


@pytest.mark.parametrize("cursor", [Cursor(1, 0), Cursor(9, 3), Cursor(0, 10_000)])
async def test_a_place_that_the_log_does_not_have_means_from_the_start(cursor: Cursor) -> None:
    log, turn = MemoryLog(), make_turn()
    tell(Stages(log, turn), ["a", "b"])
    async with running(live(log)) as turns:
        whole = await read_all(await turns.follow(turn.turn_id))
        cleared = whole[0].event
        assert isinstance(cleared, Cleared)
        assert await read_all(await turns.follow(turn.turn_id, cleared=cleared, cursor=cursor)) == whole


async def test_a_reader_that_joins_a_running_turn_goes_on_live_and_says_so() -> None:
    log, turn = MemoryLog(), make_turn()
    stages = Stages(log, turn)
    stages.clear()
    stages.say("a")
    async with running(live(log)) as turns:
        reader = await turns.follow(turn.turn_id)
        assert len(await reader.next_events(1)) == 3
        assert await reader.next_events(0.02) == []
        (attached,) = [record for record in log.records(TOKENS.name) if b'"attached"' in record.value]
        assert serde.decode_token(attached.value) == Attached(turn_id=turn.turn_id, edge_id="edge-test")
        stages.say("b")
        assert kinds(await reader.next_events(1)) == ["delta"]
        reader.close()
        assert turns.state(turn.turn_id) is None


async def test_a_turn_that_another_edge_follows_is_followed() -> None:
    log, turn = MemoryLog(), make_turn()
    Stages(log, turn).clear()
    async with running(live(log)) as turns:
        reader = turns.open(turn.turn_id)
        turns.feed.hold(turn.turn_id)
        assert turns.followed(turn.turn_id)
        reader.close()
        assert not turns.followed(turn.turn_id)
        Stages(log, turn).put(Attached(turn_id=turn.turn_id, edge_id="another"))
        await until(lambda: turns.followed(turn.turn_id))
        Stages(log, turn).put(Attached(turn_id=turn.turn_id, edge_id="edge-test"))
        await until(lambda: not turns.followed(turn.turn_id))


class Visits:
    """An edge that counts what its tail follows."""

    def __init__(self, settings: SseSettings) -> None:
        self.log = MemoryLog(8)
        self.tail = self.log.tail([])
        self.turns: LiveTurns = live_turns(self.log, self.log.producer(), settings, FakeMetrics(), self.tail)

    def turn(self, partition: int) -> Turn:
        return make_turn(partition)

    @property
    def followed(self) -> set[int]:
        return {partition.partition for partition in self.tail._positions}


async def test_a_foreign_partition_is_followed_as_long_as_somebody_reads_it_and_a_little_longer() -> None:
    edge = Visits(SSE.model_copy(update={"visit_linger_seconds": 0.02}))
    async with running(edge.turns):
        one, two = [await edge.turns.follow(edge.turn(5).turn_id) for _ in range(2)]
        assert edge.followed == {5}
        one.close()
        two.close()
        two.close()
        assert edge.followed == {5}
        await until(lambda: edge.followed == set())


async def test_there_is_a_bound_to_visits() -> None:
    edge = Visits(SSE.model_copy(update={"visited_partitions_max": 1, "visit_linger_seconds": 60}))
    async with running(edge.turns):
        reader = await edge.turns.follow(edge.turn(5).turn_id)
        with pytest.raises(StreamBroken):
            await edge.turns.follow(edge.turn(6).turn_id)
        reader.close()
        await edge.turns.follow(edge.turn(6).turn_id)
        assert edge.followed == {6}


async def test_a_reader_behind_is_told_of_a_drain_too() -> None:
    log, turn = MemoryLog(), make_turn()
    tell(Stages(log, turn), ["a"])
    async with running(live(log)) as turns:
        reader = await turns.follow(turn.turn_id)
        turns.break_off_all()
        with pytest.raises(StreamBroken) as caught:
            await reader.next_events(1)
    assert caught.value.refusal.error.code == "server_shutting_down"


async def test_a_log_that_cannot_be_read_is_retryable_and_the_visit_ends() -> None:
    log = MemoryLog()
    turns = live(log)

    async def fails(*_arguments: object) -> None:
        raise Retryable("no broker")

    turns._log.offsets_at = fails  # type: ignore[method-assign, assignment]
    with pytest.raises(Retryable):
        await turns.follow(ids.new_turn_id(log.now_ms, ELSEWHERE, os.urandom(8)))
    assert turns._visited._left_s
