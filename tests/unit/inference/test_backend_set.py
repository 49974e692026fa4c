"""Several servers of one pool: who is chosen, who is avoided, and what a dead one costs."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field

import pytest
from pydantic import ValidationError

from consumers.inference.backend_set import BackendSet
from consumers.inference.pool import PoolSettings
from consumers.inference.server_health import ServerHealth, choose
from schemas.errors import Malformed, Retryable
from schemas.events import InferenceRequested
from schemas.ports import Generated, Pile
from tests.unit.inference.inference_fakes import make_request, settled

SETTINGS = PoolSettings(url="a, b", probe_interval_s=0.001, silence_s_min=0.001, cooldown_s_min=10)


@dataclass
class Server:
    """Sends ``words`` and ends; or fails, hangs or breaks off after them."""

    words: int = 2
    error: Exception | None = None
    alive: bool = True
    hangs: bool = False
    ends: bool = True
    probes: int = 0
    asked: int = 0
    open: int = 0
    closed: bool = False

    async def generate(
        self, request: InferenceRequested, prefix: str, _pile: Pile | None = None
    ) -> AsyncGenerator[Generated, None]:
        assert request.prompt.max_tokens
        assert not prefix
        self.asked += 1
        self.open += 1
        try:
            for _ in range(self.words):
                yield Generated(text="w", tokens=1)
            if self.error is not None:
                raise self.error
            if self.hangs:
                await asyncio.Event().wait()
            if self.ends:
                yield Generated(text="", tokens=0, finish_reason="stop")
        finally:
            self.open -= 1

    async def ready(self) -> bool:
        self.probes += 1
        return self.alive

    async def close(self) -> None:
        self.closed = True


@dataclass
class Pool:
    """A set of two servers."""

    a: Server = field(default_factory=Server)
    b: Server = field(default_factory=Server)
    settings: PoolSettings = SETTINGS

    def connect(self) -> BackendSet:
        return BackendSet(self.settings, lambda one: {"a": self.a, "b": self.b}[one.url])


async def answer(backends: BackendSet) -> str:
    return "".join([piece.text async for piece in backends.generate(make_request(), "")])


async def test_the_least_busy_server_is_chosen_and_equals_take_turns() -> None:
    pool = Pool()
    backends = pool.connect()
    for _ in range(10):
        assert await answer(backends) == "ww"
    assert (pool.a.asked, pool.b.asked) == (5, 5)
    async with aclosing(backends.generate(make_request(), "")) as held:
        await anext(held)
        for _ in range(4):
            await answer(backends)
    assert sorted((pool.a.asked, pool.b.asked)) == [6, 9]


async def test_what_is_repeated_after_a_failure_goes_to_another_server() -> None:
    pool = Pool(a=Server(error=Retryable("gone")))
    backends = pool.connect()
    with pytest.raises(Retryable):
        await answer(backends)
    assert [await answer(backends) for _ in range(5)] == ["ww"] * 5
    assert (pool.a.asked, pool.b.asked) == (1, 5)


async def test_a_rejection_is_not_the_servers_fault() -> None:
    pool = Pool(a=Server(error=Malformed("no")))
    backends = pool.connect()
    with pytest.raises(Malformed):
        await answer(backends)
    await answer(backends)
    with pytest.raises(Malformed):
        await answer(backends)
    assert pool.a.asked == 2


async def test_when_all_failed_they_are_tried_all_the_same() -> None:
    pool = Pool(Server(error=Retryable("gone")), Server(error=Retryable("gone")))
    backends = pool.connect()
    for _ in range(6):
        with pytest.raises(Retryable):
            await answer(backends)
    assert pool.a.asked + pool.b.asked == 6
    assert min(pool.a.asked, pool.b.asked) >= 1


async def test_a_server_that_ends_without_a_reason_failed() -> None:
    pool = Pool(Server(ends=False), Server(ends=False))
    with pytest.raises(Retryable):
        await answer(pool.connect())


async def test_answers_of_a_server_that_hangs_are_broken_off_and_closed() -> None:
    pool = Pool(a=Server(hangs=True))
    backends = pool.connect()
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(backends.watch())
        hung = group.create_task(until_retryable(backends))
        await settled(lambda: pool.a.open == 1 and pool.a.probes > 0)
        pool.a.alive = False
        await hung
        assert await answer(backends) == "ww"
        watching.cancel()
    assert (pool.a.open, pool.a.asked, pool.b.asked) == (0, 1, 1)


async def test_a_long_prompt_on_a_living_server_is_waited_for() -> None:
    pool = Pool(a=Server(hangs=True))
    backends = pool.connect()
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(backends.watch())
        slow = group.create_task(until_retryable(backends))
        done, _ = await asyncio.wait([slow], timeout=0.05)
        assert not done
        slow.cancel()
        watching.cancel()


async def test_a_pool_is_ready_while_one_server_is_and_closes_all() -> None:
    pool = Pool(a=Server(alive=False))
    backends = pool.connect()
    assert await backends.ready()
    pool.b.alive = False
    assert not await backends.ready()
    await backends.close()
    assert pool.a.closed
    assert pool.b.closed


def test_a_server_that_never_answered_a_probe_is_not_missed() -> None:
    health = ServerHealth(SETTINGS)
    assert not any(health.probed(float(second), answered=False) for second in range(10))
    assert not health.avoided(10.0)


def test_a_server_that_was_asked_before_it_was_up_is_asked_again_once_it_works() -> None:
    health = ServerHealth(PoolSettings())
    health.probed(0.0, answered=False)
    health.begin(1.0, 1)
    health.hear(1.1)
    assert health.wants_probe(1.2)
    health.probed(1.2, answered=False)
    health.hear(1.3)
    # An upstream that answers no such question is not asked it all the time.
    assert not health.wants_probe(1.4)


def test_cooldowns_double_up_to_a_limit_and_a_success_ends_them() -> None:
    health = ServerHealth(PoolSettings(cooldown_s_min=1, cooldown_s_max=5))
    now_s, cooldowns = 0.0, []
    for _ in range(5):
        health.fail(now_s)
        # Answers that broke with the first one are the same failure.
        health.fail(now_s)
        cooldowns.append(health.avoided_until_s - now_s)
        now_s = health.avoided_until_s
    assert cooldowns == [1, 2, 4, 5, 5]
    health.fail(now_s)
    health.succeed()
    assert not health.avoided(now_s)


def test_a_server_that_comes_back_is_used_at_once_and_one_that_only_says_so_is_not() -> None:
    restarted, broken = ServerHealth(SETTINGS), ServerHealth(SETTINGS)
    for health in (restarted, broken):
        health.probed(0.0, answered=True)
        health.fail(1.0)
    restarted.probed(2.0, answered=False)
    restarted.probed(3.0, answered=True)
    broken.probed(3.0, answered=True)
    assert not restarted.avoided(3.0)
    assert broken.avoided(3.0)
    assert choose([broken, restarted], 3.0) is restarted


def test_load_follows_the_servers_that_are_left() -> None:
    servers = [ServerHealth(SETTINGS) for _ in range(3)]
    servers[1].fail(0.0)
    chosen: Counter[int] = Counter()
    for number in range(100):
        found = choose(servers, 1.0)
        found.begin(1.0, number)
        chosen[servers.index(found)] += 1
    assert chosen == {0: 50, 2: 50}


def test_a_pool_names_its_servers() -> None:
    assert [one.url for one in PoolSettings(url="a:1,b:2 , c:3,").servers] == ["a:1", "b:2", "c:3"]
    with pytest.raises(ValidationError):
        PoolSettings(url=" , ")


async def until_retryable(backends: BackendSet) -> None:
    with pytest.raises(Retryable):
        await answer(backends)
