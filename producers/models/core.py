"""Models as ``GET /v1/models`` shows them to one account: OpenAI's fields, and what a client needs to choose. Pure."""

from typing import Any

from schemas.accounts import Account
from schemas.models import AUTO, CATALOGUE_CREATED_S, Catalogue, ModelCard
from schemas.plans import Plan


def shown(account: Account, plan: Plan, catalogue: Catalogue) -> list[dict[str, Any]]:
    """Every model that the account's plan and key allow, in the catalogue's order."""
    allowed = (card for card in catalogue.cards.values() if card.id in plan.models and account.may_ask(card.id))
    return [_model(card, plan) for card in allowed]


def find(name: str, models: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The one of ``models`` with this id or alias, or what ``auto`` chooses from."""
    if name == AUTO and models:
        return _auto(models)
    return next((model for model in models if name == model["id"] or name in model["aliases"]), None)


def _model(card: ModelCard, plan: Plan) -> dict[str, Any]:
    context = min(card.context_tokens, plan.context_tokens_max or card.context_tokens)
    return {
        "id": card.id,
        "object": "model",
        "created": card.created,
        "owned_by": card.owned_by,
        "tier": card.pool,
        "aliases": list(card.aliases),
        "context_length": context,
        "max_output_tokens": min(card.output_tokens_max, plan.output_tokens_max or card.output_tokens_max),
        "features": list(card.features),
        "fallbacks": list(card.fallbacks),
        "pricing": {"currency": "usd", "per_tokens": 1_000_000, **card.price.model_dump()},
    }


def _auto(models: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": AUTO,
        "object": "model",
        "created": CATALOGUE_CREATED_S,
        "owned_by": "turnstream",
        "tier": AUTO,
        "aliases": [],
        "stands_for": [model["id"] for model in models],
    }
