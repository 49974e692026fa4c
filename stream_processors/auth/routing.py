"""Which model answers a turn: its name, an alias, or ``auto``. Pure.

The rule of ``auto``: the capable tier for a turn with tools, with a JSON format, with more than low reasoning effort or
with a long input; the fast tier for every other. Inside the tier the first model of the catalogue that the plan and
the key allow and that has every feature the turn needs; if the tier has none, the first such model of any tier.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from schemas.accounts import Account
from schemas.errors import Refusal, model_not_found, unsupported_by_model
from schemas.events import Route, Turn, TurnSubmitted
from schemas.features import Need, lacking, needs_of
from schemas.models import AUTO, Catalogue, ModelCard
from schemas.plans import Plan, plan_of
from stream_processors.token_counts import estimate_tokens, message_tokens

FAST: Final = "fast"
CAPABLE: Final = "capable"
_EASY_EFFORTS: Final = frozenset({None, "none", "minimal", "low"})


@dataclass(frozen=True, slots=True)
class Entitlements:
    """Which account may ask which model. ``auto_input_tokens_max``: a longer input is not for the fast tier."""

    catalogue: Catalogue
    plans: Mapping[str, Plan]
    auto_input_tokens_max: int

    def models_of(self, account: Account) -> tuple[ModelCard, ...]:
        """What the account's plan and key allow, in the catalogue's order."""
        return tuple(card for card in self.catalogue.cards.values() if self.allow(card, account))

    def allow(self, card: ModelCard, account: Account) -> bool:
        """Whether the account's plan and key allow the model."""
        return card.id in plan_of(self.plans, account.plan).models and account.may_ask(card.id)


class Chosen(NamedTuple):
    """The model that answers, and those that do when it cannot begin to."""

    card: ModelCard
    fallbacks: tuple[Route, ...]


def choose(event: TurnSubmitted, account: Account, entitlements: Entitlements) -> Chosen | Refusal:
    """The model for the turn.

    An unknown model and one outside the plan get the same answer: names of private models do not leak. 400, naming
    the parameter, for a request that the model cannot do.
    """
    turn, needs = event.turn, needs_of(event.turn)
    if turn.model == AUTO:
        card = _auto(event, entitlements.models_of(account), needs, entitlements.auto_input_tokens_max)
    else:
        card = entitlements.catalogue.names.get(turn.model)
    if card is None or not entitlements.allow(card, account):
        return model_not_found(turn.model)
    lack = lacking(card, needs)
    if lack is not None:
        return unsupported_by_model(lack.param, turn.model)
    fallbacks = [entitlements.catalogue.cards[name] for name in card.fallbacks if name != card.id]
    routes = [
        Route(model=other.id, pool=other.pool)
        for other in fallbacks
        if entitlements.allow(other, account) and lacking(other, needs) is None
    ]
    return Chosen(card, tuple(routes))


def is_demanding(event: TurnSubmitted, input_tokens_max: int) -> bool:
    """Whether ``auto`` gives the turn to the capable tier."""
    turn = event.turn
    return (
        bool(turn.generation.tools)
        or turn.generation.constrained
        or turn.generation.reasoning_effort not in _EASY_EFFORTS
        or _input_tokens(event) > input_tokens_max
    )


def _auto(
    event: TurnSubmitted, allowed: tuple[ModelCard, ...], needs: tuple[Need, ...], input_tokens_max: int
) -> ModelCard | None:
    """None when the account may use no model at all."""
    tier = CAPABLE if is_demanding(event, input_tokens_max) else FAST
    able = [card for card in allowed if lacking(card, needs) is None]
    # Without an able one, the first shows what it lacks.
    return next((card for card in able if card.pool == tier), next(iter((*able, *allowed)), None))


def _input_tokens(event: TurnSubmitted) -> int:
    turn: Turn = event.turn
    instructions = 0 if turn.instructions is None else estimate_tokens(turn.instructions.text)
    return instructions + sum(message_tokens(message, estimate_tokens) for message in event.input)
