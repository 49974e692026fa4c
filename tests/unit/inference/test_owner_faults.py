"""Crashes, zombies, duplicates and unknown outcomes: one answer, one terminal, one bill."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.inference import failures
from consumers.inference.core import InferenceSettings
from schemas.content import Content
from schemas.errors import Retryable
from schemas.events import FinishReason
from schemas.tokens import AttemptStarted, Cancelled, Delta, Finished, Refused
from schemas.topics import TOKENS
from tests.unit.inference.inference_fakes import (
    PARTITION,
    TURN_ID,
    WORDS,
    FakeBackend,
    World,
    make_request,
    receive,
    settled,
)

WHOLE = "".join(WORDS)


async def run_until_tokens(world: World, owner: str, tokens: int) -> None:
    """Run an owner and kill it once the log has accepted ``tokens``."""
    async with asyncio.TaskGroup() as group:
        turn = group.create_task(world.stage(owner)(receive()))
        await world.log.accepted(tokens, turn)
        turn.cancel()


async def test_another_owner_continues_after_the_last_token() -> None:
    world = World(backend=FakeBackend(silent={0: 3}))
    await run_until_tokens(world, "a", 3)
    assert world.backend.open == 0
    assert not world.log.answer().ended
    world.sleep(world.settings.overlap_age_ms_max + 1)
    await world.stage("b")(receive())
    assert world.backend.prefixes == ["", "".join(WORDS[:3])]
    assert world.log.answer().text == WHOLE
    assert world.log.answer().state.attempt == 2
    assert world.log.bills()[0].usage.completion_tokens == len(WORDS)
    assert world.log.bills()[0].usage.prompt_tokens == 7


async def test_a_generation_begun_too_early_is_thrown_away_unseen() -> None:
    world = World(backend=FakeBackend(silent={0: 3}))
    await run_until_tokens(world, "a", 3)
    world.backend.gate = asyncio.Semaphore(0)
    async with asyncio.TaskGroup() as group:
        group.create_task(world.stage("b")(receive()))
        await settled(lambda: len(world.backend.prefixes) == 3)
        for _ in range(2 * len(WORDS)):
            world.backend.gate.release()
    assert world.backend.prefixes == ["", "", "".join(WORDS[:3])]
    assert world.log.answer().text == WHOLE
    assert world.metrics.counts["turnstream_fenced_attempts_total", ("fast",)] == 1


async def test_a_redelivered_turn_is_not_answered_again_and_bills_the_same() -> None:
    world = World()
    await world.stage("a")(receive())
    records = len(world.log.tokens())
    await world.stage("b")(receive())
    assert [type(event) for event in world.log.tokens()[records:]] == [AttemptStarted]
    first, second = world.log.bills()
    assert first == second
    assert world.metrics.counts["turnstream_turns_total", ("fast", "stop")] == 1
    assert world.backend.open == 0


async def test_a_turn_cancelled_in_the_queue_is_billed_as_nothing() -> None:
    world = World()
    world.log.write_token(Cancelled(turn_id=TURN_ID, reason="client"))
    await world.stage()(receive())
    [bill] = world.log.bills()
    assert (bill.finish_reason, bill.usage.prompt_tokens, bill.usage.completion_tokens) == (
        FinishReason.CANCELLED,
        0,
        0,
    )
    assert [event for event in world.log.tokens() if isinstance(event, Delta)] == []


async def test_a_zombie_that_wakes_up_sees_that_it_lost_before_it_bills() -> None:
    world = World(backend=FakeBackend(words=(*WORDS[:2], " other")))
    world.backend.gate = asyncio.Semaphore(1)
    async with asyncio.TaskGroup() as group:
        zombie = group.create_task(world.stage("zombie")(receive()))
        await world.log.accepted(1, zombie)
        world.sleep(world.settings.unverified_ms_max + 1)
        await world.stage("heir", FakeBackend())(receive())
        assert world.log.answer().text == WHOLE
        for _ in range(10):
            world.backend.gate.release()
        await zombie
    assert world.log.answer().text == WHOLE
    assert {bill.usage for bill in world.log.bills()} == {world.log.bills()[0].usage}


async def test_what_a_zombie_still_appends_does_not_count() -> None:
    world = World()
    await run_until_tokens(world, "zombie", 1)
    world.log.write_token(AttemptStarted(turn_id=TURN_ID, attempt=7, owner="heir"))
    late = Delta(turn_id=TURN_ID, attempt=1, owner="zombie.0", seq=1, content=Content("late"), tokens=1)
    world.log.write_token(late)
    await world.stage("third")(receive())
    assert world.log.answer().text == WHOLE
    assert world.log.answer().state.attempt == 8


async def test_the_same_owner_id_never_adopts_its_own_earlier_attempt() -> None:
    world = World(backend=FakeBackend(silent={0: 1}))
    stage = world.stage("same")
    async with asyncio.TaskGroup() as group:
        turn = group.create_task(stage(receive()))
        await world.log.accepted(1, turn)
        turn.cancel()
    await stage(receive())
    owners = {event.owner for event in world.log.tokens() if isinstance(event, Finished)}
    assert owners == {"same.1"}


async def test_fences_are_bounded() -> None:
    world = World(settings=InferenceSettings(fences_per_claim_max=3))
    world.log.faults = dict.fromkeys(range(99), False)
    with pytest.raises(Retryable):
        await world.stage()(receive())
    assert len(world.log.appends) == 3
    assert world.backend.open == 0


async def test_an_answer_that_used_its_budget_is_finished_by_the_next_owner() -> None:
    world = World(backend=FakeBackend(silent={0: 3}))
    async with asyncio.TaskGroup() as group:
        turn = group.create_task(world.stage("a")(receive(make_request(max_tokens=4))))
        await world.log.accepted(3, turn)
        turn.cancel()
    world.sleep(world.settings.overlap_age_ms_max + 1)
    await world.stage("b")(receive(make_request(max_tokens=3)))
    assert len(world.backend.prefixes) == 1
    assert world.log.bills()[0].finish_reason is FinishReason.LENGTH


async def test_a_turn_without_a_known_offset_is_found_by_its_time() -> None:
    world = World()
    world.log.write_token(AttemptStarted(turn_id=TURN_ID, attempt=4, owner="earlier"))
    await world.stage()(receive(make_request(tokens_from=None)))
    assert world.log.answer().state.attempt == 5
    assert world.log.answer().text == WHOLE


async def test_foreign_and_unreadable_records_are_passed_over() -> None:
    world = World()
    world.log.write_token(AttemptStarted(turn_id="other", attempt=9, owner="x"), key="other")
    world.log.memory.put(TOKENS.name, TURN_ID.encode(), b"{", partition=PARTITION)
    await world.stage()(receive())
    assert isinstance(world.log.tokens()[-1], Finished)
    [bill] = world.log.bills()
    assert bill.attempt == 1


faults = st.dictionaries(st.integers(0, 12), st.booleans(), max_size=5)


@given(faults=faults, kills=st.lists(st.integers(1, len(WORDS)), max_size=2), gap=st.booleans())
def test_whatever_appends_fail_and_whoever_dies_there_is_one_answer(
    faults: dict[int, bool], kills: list[int], *, gap: bool
) -> None:
    asyncio.run(check_one_answer(faults, kills, gap=gap))


@given(faults=faults, late=st.integers(0, 40), order=st.permutations(["a", "b", "c"]))
def test_several_owners_at_once_write_one_answer(faults: dict[int, bool], late: int, order: list[str]) -> None:
    async def check() -> None:
        world = World()
        world.log.faults = faults
        async with asyncio.TaskGroup() as group:
            for owner in order:
                group.create_task(deliver(world, owner))
                for _ in range(late):
                    await asyncio.sleep(0)
        assert world.log.answer().text == WHOLE
        assert isinstance(world.log.answer().state.terminal, Finished)
        assert world.backend.open == 0

    asyncio.run(check())


async def test_a_turn_refused_before_costs_nothing() -> None:
    world = World()
    refusal = failures.upstream_unavailable()
    world.log.write_token(Refused(turn_id=TURN_ID, stage="moderation", refusal=refusal))
    await world.stage()(receive())
    assert world.log.bills() == []
    assert len(world.log.appends) == 1


async def check_one_answer(faults: dict[int, bool], kills: list[int], *, gap: bool) -> None:
    world = World()
    world.log.faults = faults
    for number, tokens in enumerate(sorted(kills)):
        async with asyncio.TaskGroup() as group:
            turn = group.create_task(deliver(world, f"victim{number}"))
            await world.log.accepted(tokens, turn)
            turn.cancel()
        if gap:
            world.sleep(world.settings.overlap_age_ms_max + 1)
    await deliver(world, "last")
    assert world.log.answer().text == WHOLE
    assert isinstance(world.log.answer().state.terminal, Finished)
    assert {bill.usage.completion_tokens for bill in world.log.bills()} == {len(WORDS)}
    assert world.backend.open == 0


async def deliver(world: World, owner: str) -> None:
    """What the consume loop does: give the record again after a Retryable."""
    stage = world.stage(owner)
    for _ in range(20):
        try:
            return await stage(receive())
        except Retryable:
            continue
    raise AssertionError("given up")


async def test_a_zombie_does_not_take_the_turn_back_from_its_living_heir() -> None:
    world = World()
    slow = FakeBackend(gate=asyncio.Semaphore(1))
    heirs = FakeBackend(gate=asyncio.Semaphore(3))
    assert slow.gate is not None
    assert heirs.gate is not None
    async with asyncio.TaskGroup() as group:
        zombie = group.create_task(world.stage("zombie", slow)(receive()))
        await world.log.accepted(1, zombie)
        world.sleep(world.settings.unverified_ms_max + 1)
        heir = group.create_task(world.stage("heir", heirs)(receive()))
        await world.log.accepted(3, heir)
        slow.gate.release()
        # It has seen that it lost: its generation is closed long before anybody tells it that it left the group.
        await settled(lambda: slow.open == 0)
        zombie.cancel()
        for _ in range(len(WORDS)):
            heirs.gate.release()
    assert world.log.answer().text == WHOLE
    assert isinstance(world.log.answer().state.terminal, Finished)
    assert len(world.log.bills()) == 1


async def test_a_terminal_that_did_not_count_is_not_billed() -> None:
    """Stopped after its last look and before its last append, an owner finds afterwards that it was replaced."""
    world = World()
    run = world.stage("zombie")

    def lose_before_the_terminal() -> None:
        if any(b'"finished"' in record.value for record in world.log.appends[-1]):
            world.log.before_append = None
            world.sleep(world.settings.unverified_ms_max + 1)
            world.log.write_token(AttemptStarted(turn_id=TURN_ID, attempt=9, owner="heir"))
            world.log.write_token(Finished.model_validate(ending_of_heir(world)))

    world.log.before_append = lose_before_the_terminal
    await run(receive())
    [bill] = world.log.bills()
    assert bill.attempt == 9


async def test_a_cancellation_that_nobody_hinted_at_is_what_is_billed() -> None:
    world = World(backend=FakeBackend())
    world.backend.gate = asyncio.Semaphore(2)
    async with asyncio.TaskGroup() as group:
        turn = group.create_task(world.stage()(receive()))
        await world.log.accepted(2, turn)
        world.log.write_token(Cancelled(turn_id=TURN_ID, reason="client"))
        for _ in range(len(WORDS)):
            world.backend.gate.release()
    [bill] = world.log.bills()
    assert (bill.finish_reason, bill.usage.completion_tokens) == (FinishReason.CANCELLED, 2)


def ending_of_heir(world: World) -> dict[str, object]:
    answer = world.log.answer()
    usage = {"prompt_tokens": 7, "completion_tokens": answer.tokens}
    return {
        "turn_id": TURN_ID,
        "attempt": 9,
        "owner": "heir",
        "seq": answer.state.next_seq,
        "finish_reason": "stop",
        "usage": usage,
    }
