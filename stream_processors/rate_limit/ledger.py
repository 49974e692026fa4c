"""What the limiter did, as events: the reason of every 429 is on the log. Pure."""

from schemas.accounts import Account
from schemas.events import TurnAuthorized, UsageRecorded
from schemas.limits import LimitLedgered, LimitWindow
from schemas.ports import Emit, Grant, Lost
from schemas.topics import LIMITS_LEDGER


def reservation(event: TurnAuthorized, tokens: int, grant: Grant, now_ms: int) -> tuple[Emit, ...]:
    """The entry of a turn that was granted or refused, and those of turns that were given up on the occasion."""
    entry = LimitLedgered(
        turn_id=event.turn.turn_id,
        **_whose(event.account),
        entry="reserved" if grant.refused_by is None else "refused",
        tokens=tokens,
        windows=grant.windows,
        refused_by=grant.refused_by,
        ledgered_at_ms=now_ms,
    )
    return (_emit(entry), *(_emit(_lost(event.account, lost, now_ms)) for lost in grant.lost))


def oversize(event: TurnAuthorized, tokens: int, limit: int, now_ms: int) -> Emit:
    """The entry of a turn that is larger than a quota, whose bucket was not asked."""
    window = LimitWindow(scope="user", kind="tokens", limit=limit, used=0)
    return _emit(
        LimitLedgered(
            turn_id=event.turn.turn_id,
            **_whose(event.account),
            entry="refused",
            tokens=tokens,
            refused_by=window,
            ledgered_at_ms=now_ms,
        )
    )


def settlement(event: UsageRecorded, windows: tuple[LimitWindow, ...]) -> Emit:
    """The entry of a turn whose reservation was replaced by its use; one that used nothing is released."""
    tokens = event.usage.prompt_tokens + event.usage.completion_tokens
    return _emit(
        LimitLedgered(
            turn_id=event.turn_id,
            tenant_id=event.tenant_id,
            user_id=event.user_id,
            key_id=event.key_id,
            plan=event.plan,
            entry="settled" if tokens else "released",
            tokens=tokens,
            windows=windows,
            ledgered_at_ms=event.recorded_at_ms,
        )
    )


def _lost(account: Account, lost: Lost, now_ms: int) -> LimitLedgered:
    whose = {**_whose(account), "key_id": lost.key_id}
    return LimitLedgered(turn_id=lost.turn_id, **whose, entry="released", tokens=lost.tokens, ledgered_at_ms=now_ms)


def _whose(account: Account) -> dict[str, str]:
    return {
        "tenant_id": account.tenant_id,
        "user_id": account.user_id,
        "key_id": account.key_id,
        "plan": account.plan,
    }


def _emit(entry: LimitLedgered) -> Emit:
    return Emit(LIMITS_LEDGER, key=entry.user_id, event=entry, turn_id=entry.turn_id)
