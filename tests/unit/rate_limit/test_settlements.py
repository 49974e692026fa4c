"""Settlements while Redis is away: they wait as long as they mean something, and stop nobody for longer."""

from collections.abc import Sequence
from typing import Any

import pytest

from schemas.errors import Retryable
from schemas.ports import Received
from schemas.topics import USAGE_EVENTS
from stream_processors.rate_limit.core import RateLimitSettings
from stream_processors.topology import RATE_LIMIT_SETTLE
from tests.support import processor_world
from tests.support.processor_world import ProcessorWorld
from tests.support.turn_events import NOW_MS, received

PATIENCE_MS = RateLimitSettings().settlement_seconds_max * 1_000


def used(number: int, recorded_at_ms: int = NOW_MS) -> Received[Any]:
    return received(processor_world.used(number, recorded_at_ms), USAGE_EVENTS, number)


async def settle(world: ProcessorWorld, batch: Sequence[Received[Any]]) -> int:
    """How many were passed over or settled."""
    return len(await world.processes()[RATE_LIMIT_SETTLE](batch))


async def test_a_settlement_waits_for_redis_and_then_is_given_up() -> None:
    world = ProcessorWorld()
    world.quota.down = True
    world.now_ms = NOW_MS + PATIENCE_MS
    with pytest.raises(Retryable):
        await settle(world, [used(1)])
    world.now_ms += 1
    assert await settle(world, [used(1)]) == 1
    assert list(world.metrics.counts.values()) == [1]


async def test_one_that_still_means_something_keeps_the_others_of_its_batch() -> None:
    world = ProcessorWorld()
    world.quota.down = True
    world.now_ms = NOW_MS + PATIENCE_MS + 1
    with pytest.raises(Retryable):
        await settle(world, [used(1), used(2, recorded_at_ms=NOW_MS + 1)])


async def test_an_old_settlement_is_made_while_redis_answers() -> None:
    world = ProcessorWorld()
    world.now_ms = NOW_MS + 2 * PATIENCE_MS
    assert await settle(world, [used(1)]) == 1
    assert not world.metrics.counts
