"""The prompt stage: admitted turns become prompted or refused ones."""

from collections.abc import Mapping, Sequence
from typing import Any

import structlog

from schemas.bills import LOCAL_REGION
from schemas.errors import Refusal, Retryable, model_not_found
from schemas.events import FinishReason, TurnAdmitted, TurnPrompted
from schemas.models import ModelCard, by_id
from schemas.plans import Plan
from schemas.ports import Emit, History, Metrics, Outcome, Received, StoredMessage
from schemas.topics import TURNS_PROMPTED
from stream_processors.outcomes import count_refusals, decide_each, pass_on, refuse, unused
from stream_processors.prompt import core
from stream_processors.prompt.branching import Branches, Found, needs_history
from stream_processors.token_counts import TokenCounter
from stream_processors.topology import PROMPT
from stream_processors.well_formed import over_well_formed

log = structlog.get_logger(__name__)

Histories = Mapping[str, Sequence[StoredMessage]]


class BuildPrompts:
    """The ``BatchProcess`` of the row ``PROMPT``: batched look-ups of history, then one prompt per turn.

    Hot contexts are a shortcut: while they do not answer, every history is read from the store.
    """

    def __init__(
        self,
        settings: core.PromptSettings,
        catalogue: tuple[ModelCard, ...],
        plans: Mapping[str, Plan],
        *,
        contexts: core.HotContexts,
        history: History,
        count: TokenCounter,
        metrics: Metrics,
        region: str = LOCAL_REGION,
    ) -> None:
        self._settings = settings
        self._region = region
        self._cards = by_id(catalogue)
        self._within_plans = {
            (card.id, name): core.within_plan(card, plan) for card in catalogue for name, plan in plans.items()
        }
        self._policy = core.policy_messages(settings)
        self._contexts = contexts
        self._history = history
        self._branches = Branches(history, settings.history_messages_max, settings.history_windows_max)
        self._count = count
        self._metrics = metrics

    async def __call__(self, batch: Sequence[Received[Any]]) -> Sequence[Outcome]:
        """One outcome per ``TurnAdmitted``; a turn whose history cannot be read is refused."""
        return await over_well_formed(batch, self._outcomes)

    async def _outcomes(self, batch: Sequence[Received[Any]]) -> Sequence[Outcome]:
        events = [received.event for received in batch]
        found = await self._branches.find(events, await self._histories(events))
        outcomes = decide_each(batch, lambda received: self._decide(received, found))
        count_refusals(self._metrics, outcomes)
        return outcomes

    async def _histories(self, events: Sequence[TurnAdmitted]) -> Histories:
        asked = list({event.turn.conversation_id for event in events if needs_history(event.turn)})
        if not asked:
            return {}
        hot = await self._read_hot(asked)
        if hot is None:
            return await self._read_stored(asked)
        missing = [conversation_id for conversation_id in asked if conversation_id not in hot]
        return {**hot, **await self._rebuild(missing)} if missing else hot

    async def _read_stored(self, conversation_ids: Sequence[str]) -> Histories:
        """The histories in the store; none while it does not answer."""
        try:
            return await self._history.recent(conversation_ids, self._settings.history_messages_max)
        except Retryable as error:
            self._metrics.count("turnstream_dependency_failures_total", dependency="cassandra")
            log.warning("prompt.history_unread", conversations=len(conversation_ids), error=str(error))
            return {}

    async def _read_hot(self, conversation_ids: Sequence[str]) -> Histories | None:
        try:
            return await self._contexts.read(conversation_ids)
        except Retryable as error:
            log.warning("prompt.contexts_unread", conversations=len(conversation_ids), error=str(error))
            return None

    async def _rebuild(self, conversation_ids: Sequence[str]) -> Histories:
        # Announced before the history is read: what is stored in between then reaches the context another way.
        token = await self._announce(conversation_ids)
        histories = await self._read_stored(conversation_ids)
        if token is not None and histories:
            await self._publish(token, histories)
        return histories

    async def _announce(self, conversation_ids: Sequence[str]) -> str | None:
        try:
            return await self._contexts.begin_rebuild(conversation_ids)
        except Retryable as error:
            log.warning("prompt.rebuild_unannounced", conversations=len(conversation_ids), error=str(error))
            return None

    async def _publish(self, token: str, histories: Histories) -> None:
        try:
            await self._contexts.finish_rebuild(token, histories)
        except Retryable as error:
            log.warning("prompt.rebuild_unpublished", conversations=len(histories), error=str(error))

    def _decide(self, received: Received[TurnAdmitted], found: Mapping[str, Found]) -> Sequence[Emit]:
        event = received.event
        prompted = self._prompted(event, found)
        if isinstance(prompted, Refusal):
            # When it was refused must not change when its record comes again.
            bill = unused(event, FinishReason.FAILED, received.record.timestamp_ms, region=self._region)
            return (refuse(event.turn, PROMPT.name, prompted, event.limits), bill)
        return (pass_on(TURNS_PROMPTED, event.turn, prompted),)

    def _prompted(self, event: TurnAdmitted, found: Mapping[str, Found]) -> TurnPrompted | Refusal:
        model = event.served_model or event.turn.model
        card = self._cards.get(model)
        if card is None:
            return model_not_found(model)
        branch = found[event.turn.turn_id]
        if isinstance(branch, Refusal):
            return branch
        return core.build(
            event,
            # A plan that is not listed has no bounds of its own.
            self._within_plans.get((model, event.account.plan), card),
            branch,
            policy=self._policy,
            completion_tokens_min=self._settings.completion_tokens_min,
            count=self._count,
        )
