"""The moderation stage: prompted turns become inference requests or refused ones."""

from collections.abc import Callable, Sequence
from typing import Any

from schemas.bills import LOCAL_REGION
from schemas.events import TurnPrompted
from schemas.ports import Emit, Metrics, Outcome, Received
from stream_processors.moderation import core
from stream_processors.moderation.policy import Policy
from stream_processors.outcomes import count_refusals, decide_each
from stream_processors.well_formed import over_well_formed


class Moderate:
    """The ``BatchProcess`` of the row ``MODERATION``. Nothing is asked of anybody, so it is never Retryable."""

    def __init__(self, policy: Policy, metrics: Metrics, now_ms: Callable[[], int], region: str = LOCAL_REGION) -> None:
        self._policy = policy
        self._region = region
        self._metrics = metrics
        self._now_ms = now_ms

    async def __call__(self, batch: Sequence[Received[Any]]) -> Sequence[Outcome]:
        """One outcome per ``TurnPrompted``."""
        return await over_well_formed(batch, self._outcomes)

    async def _outcomes(self, batch: Sequence[Received[Any]]) -> Sequence[Outcome]:
        outcomes = decide_each(batch, self._decide)
        count_refusals(self._metrics, outcomes)
        return outcomes

    def _decide(self, received: Received[TurnPrompted]) -> Sequence[Emit]:
        verdict = self._policy.judge_input(core.own_texts(received.event))
        return core.decide(
            received.event,
            verdict,
            policy_version=self._policy.version,
            decided_at_ms=self._now_ms(),
            received_at_ms=received.record.timestamp_ms,
            traceparent=received.traceparent,
            region=self._region,
        )
