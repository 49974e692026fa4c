"""How long a failing backend is borne: long enough for a server to start again, not for ever."""

from hypothesis import given
from hypothesis import strategies as st

from consumers.inference.answer import Answer, Choice
from consumers.inference.core import InferenceSettings
from consumers.inference.outage import Outage, after_failure, gives_up, pause_ms
from schemas.tokens import Failed
from tests.unit.inference.inference_fakes import SETTINGS, TURN_ID, FakeBackend, World, receive

DEFAULTS = InferenceSettings()
# What the slowest of our own servers needs to start again, and how late a client may learn that none does.
RESTART_S = 10.0
ERROR_S_MAX = 30.0
CONNECT_S = 1.0


def failures_until_given_up(turn_id: str, failing_s: float) -> list[float]:
    """The moments of the tries of a turn whose every generation fails after ``failing_s``."""
    now_s = 0.0
    tries: list[float] = []
    outage: Outage | None = None
    while outage is None or not gives_up(outage, len(tries), now_s, DEFAULTS):
        tries.append(now_s)
        now_s += failing_s
        outage = after_failure(outage, Answer(), now_s)
        now_s += pause_ms(outage, turn_id, DEFAULTS) / 1000
    return tries


@given(turn_id=st.text(min_size=1), failing_s=st.floats(0, CONNECT_S))
def test_a_restart_is_outlasted_and_a_dead_pool_is_told(turn_id: str, failing_s: float) -> None:
    tries = failures_until_given_up(turn_id, failing_s)
    assert RESTART_S < tries[-1] < ERROR_S_MAX
    assert len(tries) < DEFAULTS.generations_per_turn_max


@given(turn_id=st.text(min_size=1))
def test_a_generation_that_hangs_for_long_is_tried_once_more(turn_id: str) -> None:
    assert len(failures_until_given_up(turn_id, failing_s=60)) == 2


@given(failures=st.integers(1, 10_000))
def test_pauses_are_bounded(failures: int) -> None:
    assert 0 < pause_ms(Outage(failures, 0, 0), TURN_ID, DEFAULTS) <= DEFAULTS.backoff_ms_max


def test_an_answer_that_grows_begins_a_new_outage() -> None:
    first = after_failure(None, Answer(choices=(Choice("ab"),)), 1)
    assert after_failure(first, Answer(choices=(Choice("ab"),)), 9) == Outage(2, 1, 2)
    assert after_failure(first, Answer(choices=(Choice("abc"),)), 9) == Outage(1, 9, 3)


async def test_a_long_answer_on_a_flaky_server_does_not_fail() -> None:
    words = tuple(f" w{number}" for number in range(40))
    world = World(backend=FakeBackend(words=words, breaks_after_each=1))
    world.settings = SETTINGS.model_copy(update={"outage_ms_max": 0})
    await world.stage()(receive())
    assert world.log.answer().text == "".join(words)
    assert len(world.backend.prefixes) >= len(words)


async def test_even_a_growing_answer_has_a_last_generation() -> None:
    world = World(backend=FakeBackend(breaks_after_each=1))
    world.settings = SETTINGS.model_copy(update={"generations_per_turn_max": 3})
    await world.stage()(receive())
    assert isinstance(world.log.answer().state.terminal, Failed)
    assert len(world.backend.prefixes) == 3
