"""The auth stage: submitted turns become authorized or refused ones."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from schemas.errors import Refusal
from schemas.events import TurnSubmitted
from schemas.models import ModelCard
from schemas.ports import ConversationDirectory, Emit, KeyDirectory, Metrics, Outcome, Owner, Received
from schemas.topics import TURNS_AUTHORIZED
from stream_processors.auth import core
from stream_processors.bounded_gather import gather_bounded
from stream_processors.outcomes import count_refusals, decide_each, pass_on, refuse
from stream_processors.topology import AUTH

Verdict = core.Permit | Refusal


class Authorize:
    """The ``BatchProcess`` of the row ``AUTH``: two batched look-ups, then one decision per turn.

    A conversation's claim is durable before its first turn goes on, so its second turn finds the owner.
    """

    def __init__(
        self,
        settings: core.AuthSettings,
        catalogue: tuple[ModelCard, ...],
        *,
        keys: KeyDirectory,
        conversations: ConversationDirectory,
        metrics: Metrics,
    ) -> None:
        self._epoch = settings.epoch
        self._in_flight_max = settings.statements_in_flight_max
        self._entitlements = core.Entitlements.of(settings, catalogue)
        self._keys = keys
        self._conversations = conversations
        self._metrics = metrics

    async def __call__(self, batch: Sequence[Received[Any]]) -> Sequence[Outcome]:
        """One outcome per ``TurnSubmitted``. Raises Retryable when a directory does not answer."""
        verdicts = await self._verdicts(batch)
        owners = await self._owners(batch, verdicts)
        outcomes = decide_each(
            zip(batch, verdicts, strict=True), lambda judged: self._decide(judged[0], judged[1], owners)
        )
        count_refusals(self._metrics, outcomes)
        return outcomes

    async def _verdicts(self, batch: Sequence[Received[Any]]) -> Sequence[Verdict]:
        events: list[TurnSubmitted] = [received.event for received in batch]
        accounts = await self._keys.accounts(list({event.credential.key_hash for event in events}))
        return [
            core.permit(event.turn, accounts.get(event.credential.key_hash), self._entitlements) for event in events
        ]

    async def _owners(self, batch: Sequence[Received[Any]], verdicts: Sequence[Verdict]) -> Mapping[str, Owner]:
        permitted = [
            (received.event.turn, verdict)
            for received, verdict in zip(batch, verdicts, strict=True)
            if isinstance(verdict, core.Permit)
        ]
        claimed = await self._claim(core.claims(permitted))
        asked = {turn.conversation_id for turn, _ in permitted if core.needs_owner(turn)} - claimed.keys()
        known = await self._conversations.owners(list(asked)) if asked else {}
        return {**known, **claimed}

    async def _claim(self, claims: Mapping[int, Mapping[str, Owner]]) -> Mapping[str, Owner]:
        def call_for(owners: Mapping[str, Owner], created_at_ms: int) -> Callable[[], Awaitable[None]]:
            return lambda: self._conversations.claim(owners, created_at_ms)

        calls = [call_for(owners, created_at_ms) for created_at_ms, owners in claims.items()]
        if calls:
            await gather_bounded(calls, self._in_flight_max)
        return {conversation_id: owner for owners in claims.values() for conversation_id, owner in owners.items()}

    def _decide(
        self, received: Received[TurnSubmitted], verdict: Verdict, owners: Mapping[str, Owner]
    ) -> Sequence[Emit]:
        turn = received.event.turn
        if isinstance(verdict, core.Permit):
            refusal = core.check_owner(turn, verdict.account, owners)
            if refusal is None:
                return (pass_on(TURNS_AUTHORIZED, turn, core.authorized(received, verdict, self._epoch)),)
            verdict = refusal
        return (refuse(turn, AUTH.name, verdict),)
