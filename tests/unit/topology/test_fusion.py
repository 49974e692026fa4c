"""Fused or not: the same events on every topic, each processed once, and nothing that a stage cannot take is lost."""

from typing import Any

import pytest

from consumers.records import outgoing, to_process
from schemas.errors import Malformed, Retryable
from schemas.ports import BatchProcess, Emit, Outcome, Received
from schemas.topics import TURNS_ADMITTED, TURNS_AUTHORIZED, TURNS_SUBMITTED
from stream_processors.fusion import fed_here, fuse
from stream_processors.topology import AUTH, MODERATION, PROMPT, RATE_LIMIT, ROWS
from tests.support.processor_world import BLOCKED, ProcessorWorld
from tests.support.turn_events import received, submitted, turn, user

BATCH = [
    received(submitted(turn(1), user("hello")), TURNS_SUBMITTED),
    received(submitted(turn(2), user(BLOCKED)), TURNS_SUBMITTED),
    received(submitted(turn(3), user("bye"), key_hash="f" * 64), TURNS_SUBMITTED),
]


async def hop_by_hop(world: ProcessorWorld, batch: list[Received[Any]]) -> list[list[Emit]]:
    """What each event of ``batch`` becomes when every stage is asked on its own."""
    processes = world.processes()
    written: list[list[Emit]] = [[] for _ in batch]
    given = list(enumerate(batch))
    for row in (AUTH, RATE_LIMIT, PROMPT, MODERATION):
        following: list[tuple[int, Received[Any]]] = []
        for (index, got), outcome in zip(given, await processes[row]([got for _, got in given]), strict=True):
            assert not isinstance(outcome, Malformed)
            written[index].extend(outcome)
            following += [(index, Received(e.event, got.record, got.traceparent)) for e in outcome if e.topic in NEXT]
        given = [(index, got) for index, got in following]
    return written


NEXT = {row.source for row in (RATE_LIMIT, PROMPT, MODERATION)}


def plain(emits: Outcome) -> list[tuple[str, str, Any]]:
    assert not isinstance(emits, Malformed)
    return sorted(((emit.topic.name, emit.key, emit.event) for emit in emits), key=lambda emit: emit[0])


async def test_fused_stages_write_what_the_stages_write_one_by_one() -> None:
    fused = fuse(ProcessorWorld().processes())[AUTH]
    apart = await hop_by_hop(ProcessorWorld(), BATCH)
    assert [plain(outcome) for outcome in await fused(BATCH)] == [plain(emits) for emits in apart]


async def test_what_was_carried_on_is_marked_and_passed_over_by_its_own_stage() -> None:
    (outcome, *_) = await fuse(ProcessorWorld().processes())[AUTH](BATCH)
    assert not isinstance(outcome, Malformed)
    assert {emit.topic for emit in outcome if emit.carried} == NEXT
    written = [outgoing(emit, BATCH[0]) for emit in outcome]
    records = [BATCH[0].record._replace(headers=out.headers, topic=out.topic) for out in written]
    assert {record.topic for record in to_process(records)}.isdisjoint({topic.name for topic in NEXT})
    assert len(to_process(records)) == len(records) - len(NEXT)


async def test_a_later_row_alone_is_fused_with_those_behind_it() -> None:
    processes = ProcessorWorld().processes()
    without_auth: dict[Any, BatchProcess] = {row: process for row, process in processes.items() if row != AUTH}
    (outcome,) = await processes[AUTH](BATCH[:1])
    assert not isinstance(outcome, Malformed)
    carried_on = Received(outcome[0].event, BATCH[0].record, None)
    (further,) = await fuse(without_auth)[RATE_LIMIT]([carried_on])
    assert not isinstance(further, Malformed)
    assert [emit.topic for emit in further if emit.carried] == [PROMPT.source, MODERATION.source]


async def refusing(batch: Any) -> list[Outcome]:
    return [Malformed("cannot be taken") for _ in batch]


async def down(batch: Any) -> list[Outcome]:
    raise Retryable(f"down for {len(batch)} turns")


async def test_what_a_stage_cannot_take_is_left_to_its_own_loop() -> None:
    processes = {**ProcessorWorld().processes(), RATE_LIMIT: refusing}
    (outcome,) = await fuse(processes)[AUTH](BATCH[:1])
    assert not isinstance(outcome, Malformed)
    assert [(emit.topic, emit.carried) for emit in outcome] == [(TURNS_AUTHORIZED, False)]


async def test_a_stage_that_waits_for_a_dependency_makes_the_whole_chain_wait() -> None:
    processes = {**ProcessorWorld().processes(), PROMPT: down}
    with pytest.raises(Retryable):
        await fuse(processes)[AUTH](BATCH[:1])
    assert PROMPT.source == TURNS_ADMITTED


def test_a_row_is_fed_here_only_if_the_one_before_it_is_hosted_too() -> None:
    assert fed_here(ROWS) == {RATE_LIMIT, PROMPT, MODERATION}
    assert fed_here([RATE_LIMIT, MODERATION]) == set()
