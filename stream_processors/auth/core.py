"""Who may ask which model in which conversation. Pure."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from schemas.abuse import AbuseLevel, AbuseSignalled
from schemas.accounts import Account
from schemas.errors import (
    ErrorBody,
    ErrorType,
    Refusal,
    account_suspended,
    conversation_busy,
    conversation_not_found,
    invalid_api_key,
    storage_unavailable,
)
from schemas.events import Turn, TurnAuthorized, TurnSubmitted
from schemas.ids import EPOCH_MAX, message_seq, public_turn_id
from schemas.plans import plan_of
from schemas.ports import Owner, Received
from stream_processors.auth.routing import Chosen, Entitlements, choose


class AuthSettings(BaseModel):
    """Settings of the auth stage."""

    model_config = ConfigDict(frozen=True)

    epoch: int = Field(
        default=0, ge=0, le=EPOCH_MAX, description="Raise it when partitions are re-laid or a region fails over."
    )
    auto_input_tokens_max: int = Field(
        default=2_000, ge=1, description="`auto` gives a turn with more input (estimated) to the capable tier."
    )
    key_cache_s: float = Field(default=5.0, ge=0, description="How long a revoked key may still pass.")
    key_cache_entries_max: int = Field(default=100_000, ge=1)
    owner_cache_s: float = Field(default=0.0, ge=0, description="How long a deleted conversation may be continued.")
    owner_cache_entries_max: int = Field(default=100_000, ge=1)
    key_stale_s_max: float = Field(
        default=600.0, ge=0, description="Age up to which a known key passes while the store does not answer."
    )
    store_retry_s: float = Field(default=1.0, gt=0, description="A store that did not answer is left alone so long.")
    turn_life_seconds_max: int = Field(
        default=660, ge=1, description="A turn that old has missed every deadline: it keeps nobody out."
    )
    turn_unseen_seconds_max: int = Field(
        default=60, ge=1, description="Nor does one that old of which the log knows nothing."
    )
    lookup_seconds_max: float = Field(
        default=2.0,
        gt=0,
        description="For all of a batch; who must wait for a turn that was not found in time gets 503.",
    )
    lookups_in_flight_max: int = Field(default=8, ge=1, description="Turns looked up on the log at once, per batch.")
    slowed_requests_per_minute: int = Field(
        default=6, ge=1, description="Of a user on the rung `slow` (`docs/abuse.md`)."
    )
    standings_max: int = Field(default=100_000, ge=1, description="Users on the ladder that a process has in mind.")
    standings_seconds_max: float = Field(
        default=5.0, gt=0, description="For reading who stands where before the first turn; then go on without."
    )
    statements_in_flight_max: int = Field(default=64, ge=1, description="CQL statements at once, per batch.")


class Permit(NamedTuple):
    """An account that may ask, and the model that answers it."""

    account: Account
    chosen: Chosen


def permit(event: TurnSubmitted, account: Account | None, entitlements: Entitlements) -> Permit | Refusal:
    """Whether the key is known and had not expired when the turn was submitted, and which model it may ask for it."""
    if account is None or account.has_expired(event.turn.submitted_at_ms):
        return invalid_api_key()
    if not plan_of(entitlements.plans, account.plan).models:
        return _plan_without_models()
    chosen = choose(event, account, entitlements)
    return chosen if isinstance(chosen, Refusal) else Permit(account, chosen)


def obey(event: TurnSubmitted, permitted: Permit, signal: AbuseSignalled | None, slowed_to: int) -> Permit | Refusal:
    """What the user's standing makes of a permit. ``signal`` was valid when the turn was submitted.

    A slowed account has ``slowed_to`` requests per minute; a suspended one is told until when.
    """
    if signal is None or signal.level in {AbuseLevel.NONE, AbuseLevel.WARN}:
        return permitted
    if signal.level is AbuseLevel.SLOW:
        return permitted._replace(account=permitted.account.model_copy(update={"slowed_to": slowed_to}))
    until_ms = signal.until_ms or 0
    until = datetime.fromtimestamp(until_ms / 1_000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return account_suspended(until, -(-(until_ms - event.turn.submitted_at_ms) // 1_000))


def needs_owner(turn: Turn) -> bool:
    """Whether the turn continues a stored conversation, whose owner must be the asker, be it stored itself or not."""
    return not turn.starts_conversation


def keeps_others_out(turn: Turn) -> bool:
    """Whether no other turn of the conversation may run beside this one."""
    return turn.stored and not turn.concurrent


def check_owner(turn: Turn, account: Account, owners: Mapping[str, Owner]) -> Refusal | None:
    """Refuse a conversation that does not exist or is somebody else's, in the same words."""
    if not needs_owner(turn):
        return None
    owner = owners.get(turn.conversation_id)
    if owner != Owner(account.tenant_id, account.user_id):
        return conversation_not_found()
    return None


def waits(turns: Sequence[Turn], noted: Mapping[str, Sequence[str]], over: frozenset[str]) -> Mapping[str, str]:
    """Those of ``turns`` (in log order) that must wait for another of their conversation, each with that other.

    ``noted``: the turns that were let in before, by conversation; those that are ``over`` keep nobody out. A turn that
    was let in before is let in again: a record may come twice.
    """
    waiting: dict[str, str] = {}
    running = {
        conversation_id: turn_id
        for conversation_id, turn_ids in noted.items()
        for turn_id in reversed(turn_ids)
        if turn_id not in over
    }
    for turn in turns:
        if turn.turn_id in over or turn.turn_id in noted.get(turn.conversation_id, ()):
            continue
        first = running.setdefault(turn.conversation_id, turn.turn_id)
        if first != turn.turn_id:
            waiting[turn.turn_id] = first
    return waiting


def busy(running: str, untold: frozenset[str]) -> Refusal:
    """The refusal of a turn that must wait for ``running``; whether one that is ``untold`` runs, nobody can say."""
    return storage_unavailable() if running in untold else conversation_busy(public_turn_id(running))


def claims(turns: Sequence[tuple[Turn, Permit]]) -> Mapping[int, Mapping[str, Owner]]:
    """The owners of the stored conversations that start here, by submission time in Unix milliseconds.

    Grouped by the turn's own time, not the batch's, so that a redelivery in other batches writes the same rows.
    """
    by_time: dict[int, dict[str, Owner]] = {}
    for turn, permitted in turns:
        if turn.stored and turn.starts_conversation:
            owner = Owner(permitted.account.tenant_id, permitted.account.user_id)
            by_time.setdefault(turn.submitted_at_ms, {})[turn.conversation_id] = owner
    return by_time


def authorized(received: Received[TurnSubmitted], permitted: Permit, epoch: int) -> TurnAuthorized:
    """The submitted turn with its account, model and place in the conversation, which the log's offset gives."""
    event = received.event
    return TurnAuthorized(
        turn=event.turn,
        account=permitted.account,
        pool=permitted.chosen.card.pool,
        served_model=permitted.chosen.card.id,
        fallbacks=permitted.chosen.fallbacks,
        message_seq=message_seq(epoch, received.record.offset, 0),
        input=event.input,
    )


def _plan_without_models() -> Refusal:
    return Refusal(
        status=403,
        error=ErrorBody(
            message="Your account's plan does not include any model. Contact your administrator.",
            type=ErrorType.PERMISSION,
            code="plan_without_models",
        ),
    )
