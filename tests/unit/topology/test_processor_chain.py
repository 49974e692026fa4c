"""The rows of the topology in the real consume loop, over the log in memory: a turn from the edge to inference."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from consumers.loop import run_batches
from consumers.work import BatchWork, LoopSettings
from schemas import serde
from schemas.accounts import Account
from schemas.events import Decision, InferenceRequested, ModerationDecided, TurnSubmitted
from schemas.ids import message_seq
from schemas.tokens import Cleared, Refused
from schemas.topics import INFERENCE_REQUESTS, MODERATION_DECISIONS, TOKENS, TURNS_SUBMITTED, Topic
from stream_processors.fusion import fuse
from tests.support.memory_log import MemoryLog
from tests.support.processor_world import BLOCKED, ProcessorWorld
from tests.support.turn_events import ACCOUNT, PARTITION, conversation_id, submitted, turn, turn_id, user

TURNS = 20
TOKENS_PARTITIONS = 16


class Chain:
    """The log, and the processors running on it."""

    def __init__(self) -> None:
        self.log = MemoryLog(topics={TOKENS.name: TOKENS_PARTITIONS})
        self.world = ProcessorWorld()

    def submit(self, event: TurnSubmitted) -> int:
        headers = serde.event_headers(TURNS_SUBMITTED, event.turn.turn_id)
        key = event.turn.conversation_id.encode()
        return self.log.put(TURNS_SUBMITTED.name, key, serde.encode(event), headers).offset

    def events(self, topic: Topic) -> list[Any]:
        return [serde.decode(topic, record.value) for record in self.log.records(topic.name)]

    async def until_terminal_or_requested(self, count: int) -> None:
        def ended() -> int:
            refused = sum(isinstance(event, Refused) for event in self.events(TOKENS))
            return refused + len(self.events(INFERENCE_REQUESTS["fast"]))

        await self.log.until(lambda: ended() >= count)


@pytest.fixture(params=[False, True], ids=["a hop each", "fused"])
async def chain(request: pytest.FixtureRequest) -> AsyncIterator[Chain]:
    made = Chain()
    async with running(made, fused=request.param):
        yield made


@asynccontextmanager
async def running(chain: Chain, *, fused: bool) -> AsyncIterator[None]:
    stop = asyncio.Event()
    processes = chain.world.processes()
    async with AsyncExitStack() as members, asyncio.TaskGroup() as group:
        for row, process in (fuse(processes) if fused else processes).items():
            work = BatchWork(
                stage=row.name,
                source=row.source,
                consumer=await members.enter_async_context(chain.log.consumer(row.group, [row.source.name])),
                producer=chain.log.producer(),
                metrics=chain.world.metrics,
                process=process,
                settings=LoopSettings(poll_seconds_max=0.02),
            )
            group.create_task(run_batches(work, stop))
        try:
            yield
        finally:
            stop.set()


async def test_a_turn_reaches_inference_with_its_account_and_its_place(chain: Chain) -> None:
    offset = chain.submit(submitted(turn(1, stored=True), user("hello")))
    await chain.until_terminal_or_requested(1)
    (request,) = chain.events(INFERENCE_REQUESTS["fast"])
    assert isinstance(request, InferenceRequested)
    assert (request.account, request.message_seq) == (ACCOUNT, message_seq(0, offset, 0))
    (cleared,) = chain.events(TOKENS)
    assert isinstance(cleared, Cleared)
    assert cleared.limits.remaining_requests == cleared.limits.limit_requests - 1
    assert chain.log.records(TOKENS.name)[0].partition == PARTITION
    (decision,) = chain.events(MODERATION_DECISIONS)
    assert isinstance(decision, ModerationDecided)
    assert decision.decision is Decision.ALLOWED


async def test_every_turn_is_answered_once(chain: Chain) -> None:
    for number in range(TURNS):
        text = BLOCKED if number % 5 == 0 else "hello"
        chain.submit(submitted(turn(number), user(text)))
    await chain.until_terminal_or_requested(TURNS)
    refused = {event.turn_id for event in chain.events(TOKENS) if isinstance(event, Refused)}
    requested = {event.turn.turn_id for event in chain.events(INFERENCE_REQUESTS["fast"])}
    assert refused == {turn_id(number) for number in range(0, TURNS, 5)}
    assert requested == {turn_id(number) for number in range(TURNS)} - refused


async def test_a_submission_that_lands_twice_counts_once_in_the_quota(chain: Chain) -> None:
    event = submitted(turn(1), user("hello"))
    chain.submit(event)
    chain.submit(event)
    await chain.until_terminal_or_requested(2)
    remaining = {event.limits.remaining_requests for event in chain.events(TOKENS) if isinstance(event, Cleared)}
    assert len(remaining) == 1


async def test_somebody_elses_conversation_ends_as_not_found(chain: Chain) -> None:
    chain.world.keys.keys["c" * 64] = Account(tenant_id="acme", user_id="eve", key_id="k2", plan="pro")
    chain.submit(submitted(turn(1, stored=True), user("mine")))
    theirs = turn(2, stored=True, starts_conversation=False, conversation_id=conversation_id(1))
    chain.submit(submitted(theirs, user("show me"), key_hash="c" * 64))
    await chain.until_terminal_or_requested(2)
    (refused,) = [event for event in chain.events(TOKENS) if isinstance(event, Refused)]
    assert (refused.turn_id, refused.stage, refused.refusal.status) == (turn_id(2), "auth", 404)
