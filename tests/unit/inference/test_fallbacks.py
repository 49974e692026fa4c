"""A pool that cannot begin: its turns go to the next pool, quickly, once, and are billed to who answered."""

import pytest

from consumers.inference.breaker import PoolBreaker
from consumers.inference.core import InferenceSettings
from consumers.inference.failures import NotServed
from consumers.inference.outage import Circumstances, Outage, Reaction, react
from schemas import serde
from schemas.errors import Malformed, Retryable
from schemas.events import InferenceRequested, Route
from schemas.tokens import AttemptStarted, Failed, Finished
from schemas.topics import INFERENCE_REQUESTS
from tests.unit.inference.inference_fakes import SETTINGS, WORDS, FakeBackend, World, make_request, receive

CAPABLE = Route(model="bigger", pool="capable")
DOWN: dict[int, tuple[int, Exception]] = {number: (0, Retryable("gone")) for number in range(99)}
QUICK = SETTINGS.model_copy(update={"fallback_ms_max": 0, "outage_ms_max": 60_000})


def request_with_fallback() -> InferenceRequested:
    return make_request().model_copy(update={"served_model": "small", "fallbacks": (CAPABLE,)})


def handed_over(world: World) -> list[InferenceRequested]:
    topic = INFERENCE_REQUESTS["capable"]
    return [serde.decode(topic, record.value) for record in world.log.memory.records(topic.name)]


async def test_a_turn_whose_pool_is_down_is_answered_by_its_fallback_and_billed_to_it() -> None:
    world = World(backend=FakeBackend(faults=DOWN), settings=QUICK)
    await world.stage()(receive(request_with_fallback()))
    assert not world.log.answer().ended
    assert world.log.bills() == []
    [over] = handed_over(world)
    assert (over.pool, over.served_model, over.fallbacks) == ("capable", "bigger", ())
    assert world.metrics.counts["turnstream_fallbacks_total", ("fast", "capable")] == 1
    await world.stage("theirs", FakeBackend())(receive(over))
    assert world.log.answer().text == "".join(WORDS)
    [bill] = world.log.bills()
    assert (bill.model, bill.pool) == ("bigger", "capable")


async def test_a_turn_that_comes_again_after_it_went_is_left_to_its_fallback() -> None:
    world = World(backend=FakeBackend(faults=DOWN), settings=QUICK)
    await world.stage()(receive(request_with_fallback()))
    [over] = handed_over(world)
    theirs = FakeBackend(faults=DOWN)
    world.settings = SETTINGS
    await world.stage("theirs", theirs)(receive(over.model_copy(update={"turn": over.turn})))
    assert isinstance(world.log.answer().state.terminal, Failed)
    world.backend = FakeBackend()
    await world.stage("again")(receive(request_with_fallback()))
    assert len(handed_over(world)) == 1
    assert {(bill.model, bill.pool) for bill in world.log.bills()} == {("bigger", "capable")}


async def test_a_redelivery_between_two_pools_leaves_the_turn_where_it_went() -> None:
    world = World(settings=QUICK)
    world.log.write_token(AttemptStarted(turn_id=make_request().turn.turn_id, attempt=3, owner="o", route=CAPABLE))
    await world.stage()(receive(request_with_fallback()))
    assert not world.log.answer().ended
    assert world.log.answer().text == ""
    assert handed_over(world) == []


async def test_an_answer_that_began_stays_where_it_is() -> None:
    faults = {0: (2, Retryable("gone")), 1: (0, NotServed("gone"))}
    world = World(backend=FakeBackend(faults=dict(faults)), settings=QUICK)
    await world.stage()(receive(request_with_fallback()))
    assert handed_over(world) == []
    assert isinstance(world.log.answer().state.terminal, Failed)


async def test_a_model_that_the_pool_does_not_know_goes_at_once_and_a_bad_request_nowhere() -> None:
    world = World(backend=FakeBackend(faults={0: (0, NotServed("no")), 1: (0, Malformed("no"))}))
    stage = world.stage()
    await stage(receive(request_with_fallback()))
    assert len(handed_over(world)) == 1
    other = World(backend=FakeBackend(faults={0: (0, Malformed("no"))}))
    await other.stage()(receive(request_with_fallback()))
    assert isinstance(other.log.answer().state.terminal, Failed)
    assert handed_over(other) == []


async def test_an_open_breaker_sends_turns_on_without_asking_the_pool() -> None:
    world = World(backend=FakeBackend(faults=DOWN), settings=QUICK.model_copy(update={"breaker_failures": 2}))
    stage = world.stage()
    await stage(receive(request_with_fallback()))
    asked = len(world.backend.prefixes)
    assert world.metrics.gauges["turnstream_pool_breaker_open"] == 1
    await stage(receive(request_with_fallback()))
    assert len(world.backend.prefixes) == asked
    assert len(handed_over(world)) == 2


async def test_a_turn_without_a_fallback_asks_even_a_pool_that_is_down() -> None:
    world = World(backend=FakeBackend(faults=dict.fromkeys(range(2), (0, Retryable("gone")))))
    world.settings = SETTINGS.model_copy(update={"breaker_failures": 1, "outage_ms_max": 60_000})
    await world.stage()(receive(make_request()))
    assert isinstance(world.log.answer().state.terminal, Finished)
    assert world.metrics.gauges["turnstream_pool_breaker_open"] == 0


def test_a_breaker_lets_one_turn_try_now_and_then() -> None:
    breaker = PoolBreaker(failures_max=2, open_s=5)
    breaker.fail(0)
    assert breaker.allows(0)
    breaker.fail(1)
    assert [breaker.allows(now) for now in (1, 5.9, 6, 6, 10.9, 11)] == [False, False, True, False, False, True]
    breaker.succeed()
    assert breaker.allows(11)
    assert not breaker.open


@pytest.mark.parametrize(
    ("cause", "fallback", "pool_down", "waited_s", "reaction"),
    [
        (Retryable("x"), True, True, 0, Reaction.GO_ELSEWHERE),
        (Retryable("x"), True, False, 0, Reaction.TRY_AGAIN),
        (Retryable("x"), True, False, 2.1, Reaction.GO_ELSEWHERE),
        (Retryable("x"), False, True, 2.1, Reaction.TRY_AGAIN),
        (Retryable("x"), False, True, 20, Reaction.GIVE_UP),
        (NotServed("x"), True, False, 0, Reaction.GO_ELSEWHERE),
        (NotServed("x"), False, False, 0, Reaction.GIVE_UP),
        (Malformed("x"), True, True, 0, Reaction.GIVE_UP),
    ],
)
def test_what_a_turn_does_about_a_failure(
    cause: Exception, waited_s: float, reaction: Reaction, *, fallback: bool, pool_down: bool
) -> None:
    around = Circumstances(fallback, pool_down, waited=False, generations=3, now_s=waited_s)
    assert react(Outage(2, 0, 0), cause, around, InferenceSettings()) is reaction


def test_a_server_that_hung_is_not_waited_for_twice() -> None:
    around = Circumstances(fallback=True, pool_down=False, waited=True, generations=1, now_s=6)
    assert react(Outage(1, 6, 0), Retryable("x"), around, InferenceSettings()) is Reaction.GO_ELSEWHERE
    breaker = PoolBreaker(failures_max=5, open_s=5)
    breaker.fail(6, slowly=True)
    assert breaker.open
    assert not breaker.allows(6)
