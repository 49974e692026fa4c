"""When a crashed part is started again: pure, so that every rule has a test that needs no process."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """Back off exponentially; more crashes in `window_s` than the maximum are called a failure, and retried slowly."""

    delay_s_first: float = 0.2
    delay_s_max: float = 5.0
    restarts_per_window_max: int = 5
    window_s: float = 60.0
    failed_retry_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Restart:
    """Start again after `delay_s`; `failed` says that the limit is reached; `crashes` go into the next decision."""

    delay_s: float
    failed: bool
    crashes: tuple[float, ...]


def after_crash(policy: RestartPolicy, crashes: tuple[float, ...], now: float) -> Restart:
    """Decide after a crash at `now` (seconds, any monotonic clock), given the `crashes` of earlier decisions."""
    recent = (*(crash for crash in crashes if now - crash < policy.window_s), now)
    if len(recent) > policy.restarts_per_window_max:
        return Restart(policy.failed_retry_s, failed=True, crashes=recent[-policy.restarts_per_window_max :])
    delay_s = min(policy.delay_s_first * 2.0 ** (len(recent) - 1), policy.delay_s_max)
    return Restart(delay_s, failed=False, crashes=recent)
