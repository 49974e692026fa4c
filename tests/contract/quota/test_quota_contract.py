"""What every ``Quota`` must keep, on the fake and on a real Redis."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis.asyncio import Redis

from schemas import redis_keys
from schemas.accounts import Account
from schemas.errors import Retryable
from schemas.events import RateLimits
from schemas.plans import Plan
from schemas.ports import Grant, Quota, Reservation
from stream_processors.rate_limit.core import RateLimitSettings
from stream_processors.rate_limit.quotas import rate_limits
from stream_processors.rate_limit.redis_quota import RedisQuota
from tests.support.memory_quota import MemoryQuota
from tests.support.redis_server import running_redis
from tests.support.turn_events import turn_id

PLANS = {
    "slow": Plan(requests_per_minute=3, tokens_per_minute=1_000),
    "quick": Plan(requests_per_minute=1_200, tokens_per_minute=60_000),
    "team": Plan(
        requests_per_minute=10,
        tokens_per_minute=1_000,
        tenant_requests_per_minute=2,
        tenant_tokens_per_minute=5_000,
    ),
    "daily": Plan(requests_per_minute=100, requests_per_day=5, tokens_per_minute=10_000, tokens_per_day=2_000),
    "paired": Plan(requests_per_minute=100, tokens_per_minute=10_000, concurrent_turns_max=2),
}
SETTINGS = RateLimitSettings()
HOLD_MS = 600_000
ANN = Account(tenant_id="acme", user_id="ann", key_id="k", plan="slow")
BOB = ANN.model_copy(update={"user_id": "bob"})


@dataclass(frozen=True)
class Told:
    """A grant as the client is told of it."""

    grant: Grant

    @property
    def limits(self) -> RateLimits:
        return rate_limits(self.grant.windows)

    @property
    def scope(self) -> str | None:
        return None if self.grant.refused_by is None else self.grant.refused_by.kind

    @property
    def retry_after_ms(self) -> int:
        return self.grant.retry_after_ms


@dataclass
class Subject:
    """A quota, and a way to let its clock go on."""

    quota: Quota
    advance: Callable[[int], Awaitable[None]]

    async def ask(self, number: int, tokens: int, account: Account = ANN, hold_ms: int = HOLD_MS) -> Told:
        (grant,) = await self.quota.reserve([Reservation(turn_id(number), account, tokens, hold_ms)])
        return Told(grant)


@pytest.fixture(scope="module")
def redis_socket() -> Iterator[Path]:
    with running_redis() as socket:
        yield socket


@asynccontextmanager
async def redis_subject(socket: Path) -> AsyncIterator[Subject]:
    async with Redis(unix_socket_path=str(socket)) as client:
        await client.flushall()

        async def advance(milliseconds: int) -> None:
            # The server itself waits: for a replica that does not exist.
            await client.wait(1, milliseconds)

        yield Subject(RedisQuota(client, SETTINGS, PLANS), advance)


def memory_subject() -> Subject:
    quota = MemoryQuota(SETTINGS, PLANS)

    async def advance(milliseconds: int) -> None:
        quota.now_s += milliseconds / 1_000

    return Subject(quota, advance)


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.integration)])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    if request.param == "memory":
        yield memory_subject()
        return
    async with redis_subject(request.getfixturevalue("redis_socket")) as made:
        yield made


async def test_a_grant_tells_what_is_left(subject: Subject) -> None:
    grant = await subject.ask(1, 400)
    assert grant.scope is None
    assert (grant.limits.limit_requests, grant.limits.remaining_requests) == (3, 2)
    assert (grant.limits.limit_tokens, grant.limits.remaining_tokens) == (1_000, 600)
    assert grant.limits.reset_requests_ms == 20_000
    assert grant.limits.reset_tokens_ms == 24_000


async def test_requests_beyond_the_limit_are_refused_until_one_has_leaked(subject: Subject) -> None:
    granted = [await subject.ask(number, 1) for number in range(3)]
    refused = await subject.ask(9, 1)
    assert [grant.scope for grant in granted] == [None, None, None]
    assert refused.scope == "requests"
    assert refused.limits.remaining_requests == 0
    assert 15_000 < refused.retry_after_ms <= 20_000


async def test_tokens_beyond_the_limit_are_refused_and_take_no_request(subject: Subject) -> None:
    await subject.ask(1, 900)
    refused = await subject.ask(2, 200)
    assert refused.scope == "tokens"
    assert refused.limits.remaining_requests == 2
    assert 900 <= refused.limits.limit_tokens - refused.limits.remaining_tokens + 10 <= 910
    assert 5_000 < refused.retry_after_ms <= 6_000
    assert (await subject.ask(3, 100)).limits.remaining_requests == 1


async def test_the_whole_limit_can_be_reserved_at_once(subject: Subject) -> None:
    assert (await subject.ask(1, 1_000)).limits.remaining_tokens == 0


async def test_the_same_turn_gets_the_same_grant_and_pays_once(subject: Subject) -> None:
    first = await subject.ask(1, 400)
    await subject.ask(2, 100)
    again = await subject.ask(1, 400)
    third = await subject.ask(3, 100)
    assert again == first
    assert third.limits.remaining_requests == 0
    assert 400 <= third.limits.remaining_tokens <= 410


async def test_the_same_turn_gets_the_same_refusal_again(subject: Subject) -> None:
    await subject.ask(1, 1_000)
    refused = await subject.ask(2, 1_000)
    await subject.quota.settle([(ANN, turn_id(1), 0)])
    assert await subject.ask(2, 1_000) == refused
    assert (await subject.ask(3, 1_000)).scope is None


async def test_a_batch_is_answered_in_order_and_counts_within_itself(subject: Subject) -> None:
    asked = [Reservation(turn_id(number), ANN, 400, HOLD_MS) for number in (1, 2, 3, 1)]
    grants = await subject.quota.reserve(asked)
    assert [Told(grant).scope for grant in grants] == [None, None, "tokens", None]
    assert grants[3] == grants[0]


async def test_an_empty_batch_is_answered(subject: Subject) -> None:
    assert list(await subject.quota.reserve([])) == []
    await subject.quota.settle([])


async def test_users_do_not_share_their_quota(subject: Subject) -> None:
    await subject.ask(1, 1_000)
    assert (await subject.ask(2, 1_000, BOB)).scope is None


async def test_tenants_do_not_share_their_users(subject: Subject) -> None:
    await subject.ask(1, 1_000)
    namesake = ANN.model_copy(update={"tenant_id": "other"})
    assert (await subject.ask(1, 1_000, namesake)).limits.remaining_requests == 2


async def test_a_tenant_limit_holds_over_its_users_and_is_the_one_that_is_told(subject: Subject) -> None:
    ann, bob = (account.model_copy(update={"plan": "team"}) for account in (ANN, BOB))
    first = await subject.ask(1, 10, ann)
    await subject.ask(2, 10, bob)
    refused = await subject.ask(3, 10, bob)
    assert (first.limits.limit_requests, first.limits.remaining_requests) == (2, 1)
    assert first.limits.limit_tokens == 1_000
    assert (refused.scope, refused.limits.limit_requests, refused.limits.remaining_requests) == ("requests", 2, 0)


async def test_an_unlisted_plan_has_the_limits_of_a_plan_that_names_none(subject: Subject) -> None:
    grant = await subject.ask(1, 10, ANN.model_copy(update={"plan": "never heard of"}))
    assert grant.limits.limit_requests == Plan().requests_per_minute


async def test_settling_gives_back_what_was_not_used(subject: Subject) -> None:
    await subject.ask(1, 1_000)
    await subject.quota.settle([(ANN, turn_id(1), 300)])
    grant = await subject.ask(2, 100)
    assert grant.scope is None
    assert 600 <= grant.limits.remaining_tokens <= 610


async def test_settling_charges_what_was_used_beyond_the_reservation(subject: Subject) -> None:
    await subject.ask(1, 100)
    await subject.quota.settle([(ANN, turn_id(1), 800)])
    grant = await subject.ask(2, 100)
    assert 100 <= grant.limits.remaining_tokens <= 110


async def test_debt_is_bounded_by_twice_the_limit(subject: Subject) -> None:
    await subject.ask(1, 100)
    await subject.quota.settle([(ANN, turn_id(1), 1_000_000)])
    refused = await subject.ask(2, 1_000)
    assert refused.scope == "tokens"
    assert 115_000 < refused.retry_after_ms <= 120_000


async def test_settling_twice_settles_once(subject: Subject) -> None:
    await subject.ask(1, 500)
    await subject.quota.settle([(ANN, turn_id(1), 100), (ANN, turn_id(1), 100)])
    await subject.quota.settle([(ANN, turn_id(1), 100)])
    grant = await subject.ask(2, 100)
    assert 800 <= grant.limits.remaining_tokens <= 810


async def test_settling_does_not_forget_the_grant(subject: Subject) -> None:
    first = await subject.ask(1, 500)
    await subject.quota.settle([(ANN, turn_id(1), 100)])
    assert await subject.ask(1, 500) == first
    assert 800 <= (await subject.ask(2, 100)).limits.remaining_tokens <= 810


async def test_what_was_never_granted_cannot_be_settled(subject: Subject) -> None:
    await subject.ask(1, 1_000)
    await subject.ask(2, 500)
    await subject.quota.settle([(ANN, turn_id(2), 0), (ANN, turn_id(77), 0)])
    assert (await subject.ask(3, 100)).scope == "tokens"


async def test_used_tokens_leak_away_with_time(subject: Subject) -> None:
    quick = ANN.model_copy(update={"plan": "quick"})
    await subject.ask(1, 60_000, quick)
    refused = await subject.ask(2, 100, quick)
    await subject.advance(refused.retry_after_ms + 1)
    granted = await subject.ask(3, 100, quick)
    assert 0 < refused.retry_after_ms <= 100
    assert granted.scope is None


@pytest.mark.integration
async def test_keys_of_a_turn_lie_on_one_slot_and_expire(redis_socket: Path) -> None:
    async with redis_subject(redis_socket) as subject, Redis(unix_socket_path=str(redis_socket)) as client:
        await subject.ask(1, 500)
        keys = sorted(await client.keys())
        lives_ms = [await client.pttl(key) for key in keys]
    assert keys == [
        redis_keys.quota_held("acme", "ann").encode(),
        redis_keys.quota_running("acme", "ann").encode(),
        redis_keys.quota_reservation("acme", turn_id(1)).encode(),
        redis_keys.quota_bucket("acme", "user:ann").encode(),
    ]
    assert all(b"{acme}" in key for key in keys)
    assert 86_400_000 < lives_ms[0] <= 86_400_000 + HOLD_MS
    assert 86_400_000 < lives_ms[1] <= 86_400_000 + HOLD_MS
    assert 890_000 < lives_ms[2] <= 900_000
    assert 25_000 < lives_ms[3] <= 31_000


@pytest.mark.integration
async def test_a_server_that_forgot_the_scripts_is_told_them_again(redis_socket: Path) -> None:
    async with redis_subject(redis_socket) as subject, Redis(unix_socket_path=str(redis_socket)) as client:
        first = await subject.ask(1, 500)
        await client.script_flush()
        assert await subject.ask(1, 500) == first


@pytest.mark.integration
async def test_a_cancelled_call_leaves_no_reply_for_the_next(redis_socket: Path) -> None:
    async with Redis(unix_socket_path=str(redis_socket), max_connections=1) as client:
        await client.flushall()
        quota = RedisQuota(client, SETTINGS, PLANS)
        strangers = [Reservation(turn_id(number), ANN, 1, HOLD_MS) for number in range(300)]
        cut_short = 0
        for steps in range(1, 12):
            doomed = asyncio.create_task(quota.reserve(strangers))
            for _ in range(steps):
                await asyncio.sleep(0)
            doomed.cancel()
            (outcome,) = await asyncio.gather(doomed, return_exceptions=True)
            cut_short += isinstance(outcome, asyncio.CancelledError)
            newcomer = BOB.model_copy(update={"user_id": f"bob-{steps}"})
            (grant,) = await quota.reserve([Reservation(turn_id(1_000 + steps), newcomer, 1_000, HOLD_MS)])
            told = Told(grant)
            assert (told.scope, told.limits.remaining_requests, told.limits.remaining_tokens) == (None, 2, 0)
    assert cut_short > 1


@pytest.mark.integration
async def test_a_connection_that_the_server_closed_is_opened_again(redis_socket: Path) -> None:
    async with redis_subject(redis_socket) as subject:
        first = await subject.ask(1, 500)
        async with Redis(unix_socket_path=str(redis_socket)) as operator:
            await operator.client_kill_filter(_type="normal", skipme=True)
        assert await subject.ask(1, 500) == first


async def test_a_server_that_is_away_is_retryable(tmp_path: Path) -> None:
    async with Redis(unix_socket_path=str(tmp_path / "nobody.sock")) as client:
        quota = RedisQuota(client, SETTINGS, PLANS)
        with pytest.raises(Retryable, match="redis: "):
            await quota.reserve([Reservation(turn_id(1), ANN, 1, HOLD_MS)])


async def test_a_server_that_does_not_answer_is_retryable_in_bounded_time(tmp_path: Path) -> None:
    socket = tmp_path / "silent.sock"

    async def keep_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_unix_server(keep_silent, socket)
    async with server, Redis(unix_socket_path=str(socket)) as client:
        quota = RedisQuota(client, SETTINGS.model_copy(update={"redis_seconds_max": 0.05}), PLANS)
        with pytest.raises(Retryable, match="redis: "):
            await quota.reserve([Reservation(turn_id(1), ANN, 1, HOLD_MS)])


async def test_a_slowed_account_has_few_requests_and_the_others_all_of_theirs(subject: Subject) -> None:
    slowed = ANN.model_copy(update={"plan": "quick", "slowed_to": 2})
    told = [await subject.ask(number, 1, slowed) for number in range(4)]
    assert [one.scope for one in told] == [None, None, "requests", "requests"]
    assert told[0].limits.limit_requests == 2
    assert 25_000 <= told[2].retry_after_ms <= 30_000
    assert (await subject.ask(9, 1, BOB.model_copy(update={"plan": "quick"}))).limits.limit_requests == 1_200


async def test_whoever_is_slowed_waits_for_the_new_limit_and_not_for_all_that_was_used(subject: Subject) -> None:
    quick = ANN.model_copy(update={"plan": "quick"})
    for number in range(20):
        await subject.ask(number, 1, quick)
    told = await subject.ask(99, 1, quick.model_copy(update={"slowed_to": 6}))
    assert told.scope == "requests"
    assert told.retry_after_ms <= 70_000
