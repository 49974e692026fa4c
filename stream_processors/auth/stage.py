"""The auth stage: submitted turns become authorized or refused ones."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from schemas.accounts import Account
from schemas.errors import Refusal, Retryable, storage_unavailable
from schemas.events import Turn, TurnSubmitted
from schemas.models import Catalogue, ModelCard
from schemas.plans import Plan
from schemas.ports import ConversationDirectory, Emit, Metrics, Outcome, Owner, Received
from schemas.topics import TURNS_AUTHORIZED
from stream_processors.auth import core
from stream_processors.auth.caching import CachedAccounts
from stream_processors.auth.routing import Entitlements
from stream_processors.auth.running_turns import RunningTurns
from stream_processors.auth.standings import Standings
from stream_processors.bounded_gather import gather_bounded
from stream_processors.outcomes import count_refusals, decide_each, pass_on, refuse
from stream_processors.topology import AUTH
from stream_processors.well_formed import over_well_formed

_LOG: Final = structlog.get_logger(__name__)

Verdict = core.Permit | Refusal


@dataclass
class _Stored:
    """What was found out about the conversations of a batch. ``refusals`` by turn id."""

    owners: Mapping[str, Owner] = field(default_factory=dict)
    refusals: dict[str, Refusal] = field(default_factory=dict)


class Authorize:
    """The ``BatchProcess`` of the row ``AUTH``: batched look-ups, then one decision per turn.

    A conversation's claim and the note of its running turn are durable before a turn goes on. While the store does not
    answer, stateless turns of known keys go on, and the others are refused: they can be retried.
    """

    def __init__(
        self,
        settings: core.AuthSettings,
        catalogue: tuple[ModelCard, ...],
        plans: Mapping[str, Plan],
        *,
        accounts: CachedAccounts,
        conversations: ConversationDirectory,
        running: RunningTurns,
        standings: Standings,
        metrics: Metrics,
    ) -> None:
        self._epoch = settings.epoch
        self._in_flight_max = settings.statements_in_flight_max
        self._entitlements = Entitlements(Catalogue.of(catalogue), plans, settings.auto_input_tokens_max)
        self._accounts = accounts
        self._conversations = conversations
        self._running = running
        self._standings = standings
        self._slowed_to = settings.slowed_requests_per_minute
        self._metrics = metrics

    async def __call__(self, batch: Sequence[Received[Any]]) -> Sequence[Outcome]:
        """One outcome per ``TurnSubmitted``."""
        return await over_well_formed(batch, self._outcomes)

    async def _outcomes(self, batch: Sequence[Received[Any]]) -> Sequence[Outcome]:
        verdicts = await self._verdicts(batch)
        stored = await self._stored(
            [
                (received.event.turn, verdict)
                for received, verdict in zip(batch, verdicts, strict=True)
                if isinstance(verdict, core.Permit) and _asks_the_store(received.event.turn)
            ]
        )
        outcomes = decide_each(
            zip(batch, verdicts, strict=True), lambda judged: self._decide(judged[0], judged[1], stored)
        )
        count_refusals(self._metrics, outcomes)
        return outcomes

    async def _verdicts(self, batch: Sequence[Received[Any]]) -> Sequence[Verdict]:
        events: list[TurnSubmitted] = [received.event for received in batch]
        credentials = [event.credential for event in events]
        try:
            accounts, unknown = await self._accounts.accounts(credentials), None
        except Retryable as error:
            accounts, unknown = self._accounts.last_known(credentials), storage_unavailable()
            self._note_outage("accounts", error)
        return [self._permit(event, accounts.get(event.credential.name), unknown) for event in events]

    def _permit(self, event: TurnSubmitted, account: Account | None, unknown: Refusal | None) -> Verdict:
        if account is None and unknown is not None:
            return unknown
        permitted = core.permit(event, account, self._entitlements)
        return permitted if isinstance(permitted, Refusal) else self._obey(event, permitted)

    def _obey(self, event: TurnSubmitted, permitted: core.Permit) -> Verdict:
        account = permitted.account
        signal = self._standings.find(account.tenant_id, account.user_id, event.turn.submitted_at_ms)
        if signal is not None:
            level = signal.level.value
            self._metrics.count("turnstream_abuse_turns_total", level=level)
            _LOG.info("auth.on_the_ladder", turn_id=event.turn.turn_id, user_id=account.user_id, level=level)
        return core.obey(event, permitted, signal, self._slowed_to)

    async def _stored(self, permitted: Sequence[tuple[Turn, core.Permit]]) -> _Stored:
        """Who owns the conversations of these turns, and which of the turns may not run now."""
        if not permitted:
            return _Stored()
        try:
            stored = _Stored(owners=await self._owners(permitted))
            allowed = [
                turn for turn, permit in permitted if core.check_owner(turn, permit.account, stored.owners) is None
            ]
            stored.refusals.update(await self._keep_out(allowed))
        except Retryable as error:
            self._note_outage("conversations", error)
            return _Stored(refusals={turn.turn_id: storage_unavailable() for turn, _ in permitted})
        return stored

    async def _owners(self, permitted: Sequence[tuple[Turn, core.Permit]]) -> Mapping[str, Owner]:
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

    async def _keep_out(self, turns: Sequence[Turn]) -> Mapping[str, Refusal]:
        """The refusals of those ``turns`` whose conversation has a running one; the others are noted as running."""
        turns = [turn for turn in turns if core.keeps_others_out(turn)]
        continuing = list({turn.conversation_id: None for turn in turns if not turn.starts_conversation})
        noted = await self._running.noted(continuing)
        doubted = await self._running.doubt(
            {turn_id: conversation_id for conversation_id, turn_ids in noted.items() for turn_id in turn_ids}
        )
        over, untold = doubted.over, doubted.untold
        # One that is let in just now may have ended long ago: its record came again, and its note was gone.
        asking = {turn.turn_id: turn.conversation_id for turn in turns}
        waiting = core.waits(turns, noted, over)
        fresh = {first: asking[first] for first in waiting.values() if first in asking}
        if fresh:
            doubted = await self._running.doubt(fresh)
            over, untold = over | doubted.over, untold | doubted.untold
            waiting = core.waits(turns, noted, over)
        refusals = {turn_id: core.busy(first, untold) for turn_id, first in waiting.items()}
        await self._running.begin(
            {turn.turn_id: turn.conversation_id for turn in turns if turn.turn_id not in refusals.keys() | over}
        )
        return refusals

    def _decide(self, received: Received[TurnSubmitted], verdict: Verdict, stored: _Stored) -> Sequence[Emit]:
        turn = received.event.turn
        if isinstance(verdict, core.Permit):
            refusal = stored.refusals.get(turn.turn_id) or core.check_owner(turn, verdict.account, stored.owners)
            if refusal is None:
                return (pass_on(TURNS_AUTHORIZED, turn, core.authorized(received, verdict, self._epoch)),)
            verdict = refusal
        return (refuse(turn, AUTH.name, verdict),)

    def _note_outage(self, asked: str, error: Retryable) -> None:
        self._metrics.count("turnstream_dependency_failures_total", dependency="cassandra")
        _LOG.warning("auth.store_unavailable", asked=asked, error=str(error))


def _asks_the_store(turn: Turn) -> bool:
    return turn.stored or core.needs_owner(turn)
