"""Bills: what a turn costs, and the one of a turn that used nothing. Every stage that may end a turn writes the same.

Exactly one bill counts per admitted turn; the key is ``turn_id``. A redelivery repeats a bill; and who refused a turn
or gave it up may not know that somebody answered it. So of several, one that used tokens counts before an unused one,
and then the one that is first on the log.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Decimal
from functools import cache
from typing import Final

from schemas.accounts import Account
from schemas.events import Decision, FinishReason, Turn, Usage, UsageRecorded
from schemas.models import ModelCard, Price

LOCAL_REGION: Final = "local"
# Prices are US dollars per million tokens: of one token that is as many thousands of billionths.
_NANO_PER_TOKEN: Final = 1_000
_NOTHING: Final = Usage(prompt_tokens=0, completion_tokens=0)
_FREE: Final = Price()


@dataclass(frozen=True, slots=True)
class Billing:
    """What a bill needs beside the turn: prices by model id, and the region in which this process runs."""

    prices: Mapping[str, Price] = field(default_factory=dict)
    region: str = LOCAL_REGION

    @classmethod
    def of(cls, models: Iterable[ModelCard], region: str) -> "Billing":
        """By the catalogue's prices."""
        return cls({card.id: card.price for card in models}, region)

    def price_of(self, model: str) -> Price:
        """The price of the model that answered; one that left the catalogue is free."""
        return self.prices.get(model, _FREE)


def cost_nano_usd(usage: Usage, price: Price) -> int:
    """What ``usage`` costs in billionths of a US dollar: cached input by its own price. Half a billionth goes to even.

    By decimal arithmetic: the same tokens cost the same everywhere, and sums of turns are exact.
    """
    cached = min(usage.cached_tokens, usage.prompt_tokens)
    dollars = (
        _decimal(price.input) * (usage.prompt_tokens - cached)
        + _decimal(price.cached_input) * cached
        + _decimal(price.output) * usage.completion_tokens
    )
    return int((dollars * _NANO_PER_TOKEN).to_integral_value(ROUND_HALF_EVEN))


def unused_bill(
    turn: Turn,
    account: Account,
    *,
    model: str,
    pool: str,
    reason: FinishReason,
    decision: Decision,
    recorded_at_ms: int,
    region: str,
) -> UsageRecorded:
    """The bill of a turn that was admitted and then refused or given up: nothing was used.

    ``recorded_at_ms`` must be the same when the record comes again.
    """
    return UsageRecorded(
        turn_id=turn.turn_id,
        conversation_id=turn.conversation_id,
        tenant_id=account.tenant_id,
        user_id=account.user_id,
        key_id=account.key_id,
        plan=account.plan,
        model=model,
        pool=pool,
        usage=_NOTHING,
        finish_reason=reason,
        decision=decision,
        region=region,
        origin=turn.origin,
        attempt=0,
        duration_ms=max(0, recorded_at_ms - turn.submitted_at_ms),
        submitted_at_ms=turn.submitted_at_ms,
        recorded_at_ms=recorded_at_ms,
    )


@cache
def _decimal(price: float) -> Decimal:
    # By its shortest text: 0.1 is a tenth, as it was written in the settings.
    return Decimal(repr(price))
