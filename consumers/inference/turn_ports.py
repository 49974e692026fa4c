"""What every run of a turn in one process shares."""

from collections.abc import Callable
from dataclasses import dataclass, field

from consumers.inference.beats import Beats
from consumers.inference.breaker import PoolBreaker
from consumers.inference.core import InferenceSettings
from schemas.bills import Billing
from schemas.ports import InferenceBackend, Metrics, OutputPolicy


@dataclass(frozen=True, slots=True)
class TurnPorts:
    """The ports, clock and limits of the turns of one pool. ``in_flight`` says how many of them generate now."""

    backend: InferenceBackend
    policy: OutputPolicy
    metrics: Metrics
    now_ms: Callable[[], int]
    in_flight: Callable[[], int]
    breaker: PoolBreaker
    settings: InferenceSettings
    billing: Billing = field(default_factory=Billing)
    beats: Beats = field(default_factory=Beats)

    def succeed(self, pool: str) -> None:
        """The pool has answered: it is well."""
        if self.breaker.succeed():
            self.metrics.gauge("turnstream_pool_breaker_open", 0, pool=pool)
