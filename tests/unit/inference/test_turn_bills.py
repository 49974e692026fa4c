"""What an ended turn's bill says: one for each way of ending, and its price."""

import asyncio

from consumers.inference.core import usage_recorded
from schemas.errors import Retryable
from schemas.events import Decision, FinishReason, UsageRecorded
from schemas.tokens import Cancelled
from tests.unit.inference.inference_fakes import (
    BILLING,
    NOW_MS,
    TURN_ID,
    WORDS,
    FakeBackend,
    FakePolicy,
    World,
    make_request,
    receive,
)

PROMPT_TOKENS = 7
NANO_PER_INPUT, NANO_PER_OUTPUT = 500, 2_000


async def bill_in(world: World, deadline_ms: int = NOW_MS + 60_000) -> UsageRecorded:
    await world.stage()(receive(make_request(deadline_ms=deadline_ms)))
    (bill,) = world.log.bills()
    return bill


async def test_an_answer_costs_by_the_prices_of_the_model_that_gave_it() -> None:
    bill = await bill_in(World())
    assert bill.cost_nano_usd == PROMPT_TOKENS * NANO_PER_INPUT + len(WORDS) * NANO_PER_OUTPUT
    assert (bill.region, bill.decision) == (BILLING.region, Decision.ALLOWED)


async def test_a_blocked_answer_costs_what_was_sent_and_says_so() -> None:
    bill = await bill_in(World(policy=FakePolicy(forbidden="w3 w4")))
    assert (bill.finish_reason, bill.decision) == (FinishReason.CONTENT_FILTER, Decision.BLOCKED_OUTPUT)
    assert bill.cost_nano_usd > 0


async def test_a_turn_that_failed_before_its_first_token_costs_nothing() -> None:
    failing = FakeBackend(faults={number: (0, Retryable("gone")) for number in range(99)})
    bill = await bill_in(World(backend=failing))
    assert (bill.finish_reason, bill.cost_nano_usd) == (FinishReason.FAILED, 0)


async def test_a_turn_that_timed_out_costs_what_was_sent() -> None:
    bill = await bill_in(World(backend=FakeBackend(silent={0: 2})), deadline_ms=NOW_MS + 400)
    assert bill.finish_reason is FinishReason.FAILED
    assert bill.cost_nano_usd == PROMPT_TOKENS * NANO_PER_INPUT + 2 * NANO_PER_OUTPUT


async def test_a_turn_that_was_cancelled_before_anybody_took_it_has_an_unused_bill() -> None:
    world = World()
    world.log.write_token(Cancelled(turn_id=TURN_ID, reason="client"))
    bill = await bill_in(world, deadline_ms=NOW_MS + 1_000)
    assert bill.unused
    assert (bill.finish_reason, bill.cost_nano_usd, bill.ttft_ms) == (FinishReason.CANCELLED, 0, None)


async def test_a_redelivery_and_another_owner_bill_the_same() -> None:
    world = World(backend=FakeBackend(silent={0: 3}))
    async with asyncio.TaskGroup() as group:
        first = group.create_task(world.stage("first")(receive()))
        await world.log.accepted(3, first)
        first.cancel()
    world.backend.silent.clear()
    await world.stage("second")(receive())
    await world.stage("third")(receive())
    bills = world.log.bills()
    assert len(bills) == 2
    assert len(set(bills)) == 1
    assert (bills[0].attempt, bills[0].usage.completion_tokens) == (2, len(WORDS))
    assert usage_recorded(make_request(), world.log.answer(), BILLING) == bills[0]
