"""The forecast of the wait for a GPU, and what admission makes of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.http.refused import RequestRefused
from producers.ingest.admission import Admission
from producers.ingest.core import IngestSettings
from producers.ingest.queue_forecast import QueueForecast
from tests.unit.ingest.edge_world import FakeMetrics

SETTINGS = IngestSettings(queue_seconds_max=10, queue_turns_min=4, queue_memory_seconds=10)


class Gpu:
    """A queue that starts one turn every ``seconds``, first come, first served."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.now_s = 1_000.0
        self.free_s = 1_000.0
        self.queue: list[str] = []
        self.retries_after_s: list[int] = []
        self.admission = Admission(SETTINGS, FakeMetrics(), lambda: self.now_s)

    def arrive(self, name: str) -> bool:
        try:
            with self.admission.slot(queued=True):
                self.admission.forecast.enter(name, self.now_s)
        except RequestRefused as refused:
            self.retries_after_s.append(refused.refusal.retry_after_s or 0)
            return False
        if not self.queue:
            self.free_s = max(self.free_s, self.now_s)
        self.queue.append(name)
        return True

    def pass_time(self, seconds: float) -> None:
        until_s = self.now_s + seconds
        while self.queue and self.free_s + self.seconds <= until_s:
            self.free_s += self.seconds
            self.now_s = max(self.now_s, self.free_s)
            self.admission.started(self.queue.pop(0))
        self.now_s = until_s


def test_an_overload_is_refused_and_the_wait_stays_bounded() -> None:
    gpu = Gpu(seconds=0.5)
    longest = 0
    for second in range(120):
        for each in range(8):
            gpu.arrive(f"{second}.{each}")
        longest = max(longest, len(gpu.queue))
        gpu.pass_time(1)
    # Ten seconds of work are twenty turns; the cold start lets some more in before the rate is known.
    assert 15 <= len(gpu.queue) <= 30
    assert longest <= 40
    assert 1 <= min(gpu.retries_after_s) <= max(gpu.retries_after_s) <= 60


def test_after_an_overload_turns_are_taken_again() -> None:
    gpu = Gpu(seconds=0.5)
    for second in range(60):
        for each in range(8):
            gpu.arrive(f"{second}.{each}")
        gpu.pass_time(1)
    assert not all(gpu.arrive(f"too many {each}") for each in range(8))
    gpu.pass_time(60)
    assert gpu.arrive("welcome")


def test_a_capacity_that_stands_still_is_noticed() -> None:
    gpu = Gpu(seconds=0.01)
    for number in range(100):
        assert gpu.arrive(f"{number}")
        gpu.pass_time(0.1)
    gpu.seconds = 1e9
    taken = 0
    for number in range(100):
        taken += gpu.arrive(f"stalled {number}")
        gpu.pass_time(1)
    assert SETTINGS.queue_turns_min <= taken <= 15


@given(st.lists(st.tuples(st.sampled_from(["arrive", "pass"]), st.floats(0, 100)), max_size=60), st.floats(0.001, 20))
def test_whoever_finds_few_waiting_is_taken(steps: list[tuple[str, float]], seconds: float) -> None:
    gpu = Gpu(seconds)
    for number, (step, amount) in enumerate(steps):
        if step == "pass":
            gpu.pass_time(amount)
            continue
        few = len(gpu.queue) < SETTINGS.queue_turns_min
        assert gpu.arrive(f"{number}") or not few
        assert gpu.admission.forecast.waiting == len(gpu.queue)


def test_a_turn_that_was_not_submitted_or_came_from_elsewhere_counts_for_nothing() -> None:
    forecast = QueueForecast(10)
    forecast.enter("a", 0)
    forecast.leave("a")
    forecast.start("a", 1)
    forecast.start("b", 1)
    assert forecast.waiting == 0
    assert forecast.seconds(2) == pytest.approx(0)


def test_who_resumes_is_taken_in_any_queue() -> None:
    gpu = Gpu(seconds=1e9)
    while gpu.arrive(f"{gpu.now_s}"):
        gpu.pass_time(1)
    with gpu.admission.slot(queued=False):
        assert gpu.admission.open_turns == 1
