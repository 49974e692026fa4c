"""One tail for all turns: each reader gets its own turn's events that count, once and in order."""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from consumers.sse.core import SseSettings, Step, StreamBroken, read_step
from consumers.sse.live_turns import LiveTurns
from schemas import ids, serde
from schemas.errors import Fatal, Retryable
from schemas.events import Turn
from schemas.plain_deltas import PlainDelta
from schemas.ports import Placed, Record
from schemas.tokens import AttemptStarted, Delta
from schemas.topics import TOKENS
from tests.support.memory_log import MemoryLog, MemoryLogTail
from tests.unit.ingest.edge_world import HOME, SSE, FakeMetrics, Stages, live_turns, until

NOW_MS = 1_700_000_000_000
PROBING = SSE.model_copy(update={"probe_interval_seconds": 0.02})


def make_turn(partition: int = HOME[0]) -> Turn:
    return Turn(
        turn_id=ids.new_turn_id(NOW_MS, partition, os.urandom(8)),
        conversation_id=ids.new_conversation_id(NOW_MS, bytes(10)),
        starts_conversation=True,
        stored=False,
        model="turnstream-fast",
        submitted_at_ms=NOW_MS,
        deadline_ms=NOW_MS + 60_000,
    )


def live(log: MemoryLog, settings: SseSettings = SSE) -> LiveTurns:
    return live_turns(log, log.producer(), settings, FakeMetrics())


@asynccontextmanager
async def running(turns: LiveTurns) -> AsyncIterator[LiveTurns]:
    async with asyncio.TaskGroup() as tasks:
        following = tasks.create_task(turns.run())
        yield turns
        following.cancel()


def kinds(placed: Sequence[Placed]) -> list[str]:
    return ["delta" if isinstance(event, PlainDelta) else event.type for event, _ in placed]


def texts(placed: Sequence[Placed]) -> list[str]:
    return [piece.text for piece in read_step(placed, Step())[1]]


async def test_readers_get_their_own_turn_once_and_in_order() -> None:
    log = MemoryLog()
    async with running(live(log)) as turns:
        one, two = make_turn(), make_turn()
        readers = [turns.open(one.turn_id), turns.open(one.turn_id), turns.open(two.turn_id)]
        for turn in (one, two):
            stages = Stages(log, turn)
            stages.clear()
            stages.say("a", "b")
            stages.put(Delta.model_validate_json(log.records(TOKENS.name)[-1].value))
            stages.put(AttemptStarted(turn_id=turn.turn_id, attempt=1, owner="zombie"))
            stages.finish()
        for reader in readers:
            placed: list[Placed] = []
            while "finished" not in kinds(placed):
                placed += await reader.next_events(1)
            assert kinds(placed) == ["cleared", "attempt_started", "delta", "delta", "finished"]
            assert texts(placed) == ["a", "b"]
            reader.close()
        assert turns.state(one.turn_id) is None


async def test_the_trace_of_a_followed_turn_is_that_of_its_records() -> None:
    log, turn = MemoryLog(), make_turn()
    trace = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"
    fence = AttemptStarted(turn_id=turn.turn_id, attempt=1, owner="one")
    async with running(live(log)) as turns:
        reader = turns.open(turn.turn_id)
        assert turns.traceparent(turn.turn_id) is None
        headers = serde.event_headers(TOKENS, turn.turn_id, trace)
        log.put(TOKENS.name, turn.turn_id.encode(), serde.encode(fence), headers, HOME[0])
        await reader.next_events(1)
        assert turns.traceparent(turn.turn_id) == trace
        assert turns.traceparent(make_turn().turn_id) is None


async def test_a_silent_turn_gives_nothing_after_the_wait() -> None:
    async with running(live(MemoryLog())) as turns:
        reader = turns.open(make_turn().turn_id)
        assert await reader.next_events(0.02) == []


async def test_foreign_and_malformed_records_disturb_nobody() -> None:
    log = MemoryLog()
    async with running(live(log)) as turns:
        turn = make_turn()
        reader = turns.open(turn.turn_id)
        for key in (b"foreign", turn.turn_id.encode()):
            log.put(TOKENS.name, key, b"not JSON", partition=HOME[0])
        Stages(log, turn).clear()
        assert kinds(await reader.next_events(1)) == ["cleared", "attempt_started"]


async def test_draining_breaks_every_reader() -> None:
    async with running(live(MemoryLog())) as turns:
        reader = turns.open(make_turn().turn_id)
        turns.break_off_all()
        with pytest.raises(StreamBroken) as caught:
            await reader.next_events(1)
    assert caught.value.refusal.error.code == "server_shutting_down"


async def test_a_held_turn_is_followed_without_readers() -> None:
    log = MemoryLog()
    async with running(live(log)) as turns:
        turn = make_turn()
        reader = turns.open(turn.turn_id)
        turns.feed.hold(turn.turn_id)
        reader.close()
        reader.close()
        Stages(log, turn).cancel()
        await until(lambda: (state := turns.state(turn.turn_id)) is not None and state.terminal is not None)
        turns.feed.release(turn.turn_id)
        assert turns.state(turn.turn_id) is None


def test_a_turn_that_lives_elsewhere_cannot_be_opened() -> None:
    with pytest.raises(ValueError, match="partition"):
        live(MemoryLog()).open(make_turn(partition=2).turn_id)


def test_new_turns_are_spread_over_the_home_partitions() -> None:
    log = MemoryLog()
    turns = live(log)
    assert {turns.home_partition() for _ in range(4)} == set(HOME)
    assert turns.position(HOME[0]) == 0


async def test_ready_means_that_a_probe_has_come_back() -> None:
    log = MemoryLog()
    turns = live(log, PROBING)
    assert not turns.ready()
    async with running(turns):
        await until(turns.ready)
        await until(lambda: len({record.partition for record in log.records(TOKENS.name)}) == len(HOME))


async def test_a_probe_that_cannot_be_written_is_not_fatal() -> None:
    log = MemoryLog()
    log.fail_next_append(landing=False)
    async with running(live(log, PROBING)) as turns:
        await until(turns.ready)


class LostTail(MemoryLogTail):
    async def poll(self, records_max: int, wait_s: float) -> Sequence[Record]:
        del records_max, wait_s
        raise Retryable("lost")


async def test_a_log_that_stays_lost_is_fatal() -> None:
    log = MemoryLog()
    settings = SSE.model_copy(update={"poll_failures_max": 3, "poll_retry_seconds": 0.001})
    turns = live_turns(log, log.producer(), settings, FakeMetrics(), LostTail(log, ()))
    with pytest.raises(ExceptionGroup) as caught:
        await turns.run()
    assert caught.group_contains(Fatal)
