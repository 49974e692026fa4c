"""Quotas while Redis is away: a share of each, granted by the process itself."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.accounts import Account
from schemas.errors import Retryable
from schemas.plans import Plan
from schemas.ports import Reservation
from stream_processors.rate_limit.core import RateLimitSettings
from stream_processors.rate_limit.fallback_quota import FallbackQuota
from stream_processors.rate_limit.local_quota import LocalQuota
from tests.support.memory_quota import MemoryQuota
from tests.support.turn_events import CountedMetrics, turn_id

PLANS = {
    "slow": Plan(requests_per_minute=4, tokens_per_minute=1_000),
    "team": Plan(
        requests_per_minute=10, tokens_per_minute=1_000, tenant_requests_per_minute=4, tenant_tokens_per_minute=1_500
    ),
}
SETTINGS = RateLimitSettings(redis_retry_s=2, fallback_share=0.5)
WHOLE = SETTINGS.model_copy(update={"fallback_share": 1.0})
ANN = Account(tenant_id="acme", user_id="ann", key_id="k", plan="slow")


class World:
    def __init__(self) -> None:
        self.now_s = 100.0
        self.redis = MemoryQuota(SETTINGS, PLANS)
        self.metrics = CountedMetrics()
        self.quota = FallbackQuota(self.redis, SETTINGS, PLANS, self.metrics, lambda: self.now_s)

    async def ask(self, number: int, tokens: int = 1) -> str | None:
        (grant,) = await self.quota.reserve([Reservation(turn_id(number), ANN, tokens, 60_000)])
        return None if grant.refused_by is None else grant.refused_by.kind


async def test_a_dead_redis_costs_half_the_quota_and_one_question_in_a_while() -> None:
    world = World()
    world.redis.down = True
    assert [await world.ask(number) for number in range(3)] == [None, None, "requests"]
    world.redis.down = False
    assert await world.ask(9) == "requests"
    world.now_s += 2
    assert await world.ask(10) is None
    assert list(world.metrics.counts.values()) == [4]


async def test_a_turn_gets_the_same_answer_again() -> None:
    world = World()
    world.redis.down = True
    first = [await world.ask(number) for number in (1, 2, 3)]
    assert [await world.ask(number) for number in (1, 2, 3)] == first


async def test_settlements_wait_for_redis() -> None:
    world = World()
    world.redis.down = True
    with pytest.raises(Retryable):
        await world.quota.settle([(ANN, turn_id(1), 5)])
    world.redis.down = False
    await world.quota.settle([(ANN, turn_id(1), 5)])


ASKED = st.tuples(
    st.sampled_from(["ann", "bob"]), st.sampled_from(["slow", "team"]), st.integers(1, 1_000), st.floats(0, 90)
)


@given(st.lists(ASKED, max_size=30))
def test_with_the_whole_share_the_rules_are_those_of_redis(asked: list[tuple[str, str, int, float]]) -> None:
    local, redis, now_s = LocalQuota(WHOLE, PLANS), MemoryQuota(WHOLE, PLANS), 0.0
    for number, (user, plan, tokens, pause_s) in enumerate(asked):
        now_s += pause_s
        redis.now_s = now_s
        account = Account(tenant_id=plan, user_id=user, key_id="k", plan=plan)
        reservation = Reservation(turn_id(number), account, tokens, 3_600_000)
        (ours,) = local.reserve([reservation], now_s)
        (theirs,) = asyncio.run(redis.reserve([reservation]))
        assert (ours.refused_by is None) == (theirs.refused_by is None)
        assert abs(ours.retry_after_ms - theirs.retry_after_ms) <= 1


@given(st.lists(st.integers(1, 1_000), max_size=20))
def test_memory_is_bounded(tokens: list[int]) -> None:
    quota = LocalQuota(SETTINGS.model_copy(update={"fallback_entries_max": 3}), PLANS)
    for number, amount in enumerate(tokens):
        account = ANN.model_copy(update={"user_id": f"user-{number}"})
        (grant,) = quota.reserve([Reservation(turn_id(number), account, amount, 60_000)], 0.0)
        # Whoever comes first is never kept out, whatever the share.
        assert grant.refused_by is None
