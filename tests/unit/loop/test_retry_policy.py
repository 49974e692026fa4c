from hypothesis import given
from hypothesis import strategies as st

from consumers.retry import RetryPolicy
from consumers.work import KeyedSettings

POLICY = RetryPolicy(attempts_max=5, first_delay_s=0.1, factor=2, delay_seconds_max=1, total_seconds_max=2)


def test_delays_double_up_to_the_cap() -> None:
    assert [POLICY.delay_s(attempt, jitter=1) for attempt in range(1, 7)] == [0.1, 0.2, 0.4, 0.8, 1, 1]


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_every_delay_is_positive_and_bounded(attempt: int, jitter: float) -> None:
    assert 0 < POLICY.delay_s(attempt, jitter) <= POLICY.delay_seconds_max


def test_it_ends_by_attempts_or_by_time() -> None:
    assert not POLICY.exhausted(4, 1.9)
    assert POLICY.exhausted(5, 0)
    assert POLICY.exhausted(1, 2)


def test_no_record_is_given_up_because_the_log_was_away_for_minutes() -> None:
    policy, waited_s, attempt = KeyedSettings().record_retry, 0.0, 1
    while not policy.exhausted(attempt, waited_s):
        waited_s += policy.delay_s(attempt, jitter=0)
        attempt += 1
    assert 180 < waited_s < 600
