"""The rate limit stages: authorized turns become admitted or refused ones, and usage settles what they reserved."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import structlog

from schemas.errors import Refusal, Retryable
from schemas.events import TurnAuthorized, UsageRecorded
from schemas.limits import LimitWindow
from schemas.plans import plan_of
from schemas.ports import Emit, Grant, Metrics, Outcome, Quota, Received, Reservation
from stream_processors.outcomes import count_refusals, decide_each, refuse
from stream_processors.rate_limit import core, ledger
from stream_processors.topology import RATE_LIMIT
from stream_processors.well_formed import over_well_formed

_LOG: Final = structlog.get_logger(__name__)

Granted = tuple[TurnAuthorized, int, Grant | Refusal]


class Admit:
    """The ``BatchProcess`` of the row ``RATE_LIMIT``: one batched reservation, then one decision per turn."""

    def __init__(
        self,
        settings: core.RateLimitSettings,
        plans: core.Plans,
        quota: Quota,
        metrics: Metrics,
        now_ms: Callable[[], int],
    ) -> None:
        self._settings = settings
        self._plans = plans
        self._quota = quota
        self._metrics = metrics
        self._now_ms = now_ms

    async def __call__(self, batch: Sequence[Received[Any]]) -> Sequence[Outcome]:
        """One outcome per ``TurnAuthorized``, with its entry for the ledger. Raises Retryable without the quotas."""
        return await over_well_formed(batch, self._outcomes)

    async def _outcomes(self, batch: Sequence[Received[Any]]) -> Sequence[Outcome]:
        outcomes = decide_each(await self._ask([received.event for received in batch]), self._decide)
        count_refusals(self._metrics, outcomes)
        return outcomes

    async def _ask(self, events: Sequence[TurnAuthorized]) -> Sequence[Granted]:
        sized = [self._size(event) for event in events]
        fitting = [
            Reservation(event.turn.turn_id, event.account, tokens, core.hold_ms(event, self._settings))
            for event, tokens, refusal in sized
            if refusal is None
        ]
        grants = iter(await self._quota.reserve(fitting) if fitting else ())
        return [(event, tokens, refusal or next(grants)) for event, tokens, refusal in sized]

    def _size(self, event: TurnAuthorized) -> tuple[TurnAuthorized, int, Refusal | None]:
        plan = plan_of(self._plans, event.account.plan)
        tokens = core.tokens_to_reserve(event, plan)
        return event, tokens, core.check_size(tokens, plan)

    def _decide(self, granted: Granted) -> Sequence[Emit]:
        event, tokens, grant = granted
        if isinstance(grant, Refusal):
            limit = plan_of(self._plans, event.account.plan).turn_tokens_max
            entry = ledger.oversize(event, tokens, limit, self._now_ms())
            return (refuse(event.turn, RATE_LIMIT.name, grant), entry)
        return (core.decide(event, tokens, grant), *ledger.reservation(event, tokens, grant, self._now_ms()))


class Settle:
    """The ``BatchProcess`` of the row ``RATE_LIMIT_SETTLE``: usage replaces reservations, and the ledger has it."""

    def __init__(
        self, settings: core.RateLimitSettings, quota: Quota, metrics: Metrics, now_ms: Callable[[], int]
    ) -> None:
        self._settings = settings
        self._quota = quota
        self._metrics = metrics
        self._now_ms = now_ms

    async def __call__(self, batch: Sequence[Received[Any]]) -> Sequence[Outcome]:
        """Per ``UsageRecorded`` its entry for the ledger, or nothing where nothing was held.

        Raises Retryable when the quotas do not answer and a settlement still has a meaning; others are then given up.
        """
        events: list[UsageRecorded] = [received.event for received in batch]
        try:
            settled = await self._quota.settle([core.used_by(event) for event in events])
        except Retryable as error:
            if any(core.settles_something(event, self._now_ms(), self._settings) for event in events):
                raise
            self._metrics.count("turnstream_dependency_failures_total", dependency="redis")
            _LOG.warning("rate_limit.settlements_dropped", settlements=len(events), error=str(error))
            return [()] * len(batch)
        return [_entry(event, windows) for event, windows in zip(events, settled, strict=True)]


def _entry(event: UsageRecorded, windows: tuple[LimitWindow, ...] | None) -> Sequence[Emit]:
    return () if windows is None else (ledger.settlement(event, windows),)
