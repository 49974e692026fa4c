"""The models that clients may ask for, and the pools that serve them.

The edge lists them, auth checks entitlements against them, the prompt stage fits prompts to them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.topics import POOLS

CATALOGUE_CREATED_S: Final = 1_795_219_200  # 2026-11-21, when the default catalogue was written down


# The alias that picks a model by the request itself; the rule is in `stream_processors.auth.routing`.
AUTO: Final = "auto"

Feature = Literal["tools", "json_object", "json_schema", "logprobs", "choices", "logit_bias", "reasoning_effort"]
ALL_FEATURES: Final[tuple[Feature, ...]] = get_args(Feature)


class Price(BaseModel):
    """US dollars per million tokens."""

    model_config = ConfigDict(frozen=True)

    input: float = Field(default=0.0, ge=0)
    cached_input: float = Field(default=0.0, ge=0)
    output: float = Field(default=0.0, ge=0)


class ModelCard(BaseModel):
    """One model of the catalogue, as ``GET /v1/models`` shows it and as prompts are fitted to it."""

    model_config = ConfigDict(frozen=True)

    id: str = Field(min_length=1, max_length=64, description="The name that clients send as ``model``.")
    pool: str = Field(description="The inference pool that serves it, one of ``schemas.topics.POOLS``.")
    context_tokens: int = Field(ge=2, description="Prompt and completion together, in tokens.")
    output_tokens_max: int = Field(ge=1, description="Completion tokens at most, whatever the client asks for.")
    owned_by: str = Field(default="turnstream", description="Shown to clients.")
    created: int = Field(default=CATALOGUE_CREATED_S, ge=0, description="Unix seconds, shown to clients.")

    aliases: tuple[str, ...] = Field(default=(), description="Other names that clients may send for it.")
    features: tuple[Feature, ...] = Field(
        default=ALL_FEATURES, description="What it can beside text; a request that needs something else gets 400."
    )
    fallbacks: tuple[str, ...] = Field(
        default=(), description="Models by id that answer, in this order, when it cannot begin to."
    )
    price: Price = Field(default=Price(), description="What `/v1/organization/costs` and `/v1/models` say it costs.")

    @model_validator(mode="after")
    def _can_be_served(self) -> "ModelCard":
        if self.pool not in POOLS:
            raise ValueError(f"pool must be one of {', '.join(POOLS)}")
        if self.output_tokens_max >= self.context_tokens:
            raise ValueError("output_tokens_max must leave room for a prompt in context_tokens")
        return self


# TensorRT-LLM's models on Triton take no bias of single tokens.
_TRITON: Final = tuple(feature for feature in ALL_FEATURES if feature != "logit_bias")

DEFAULT_CATALOGUE: Final = (
    ModelCard(
        id="turnstream-fast",
        pool="fast",
        context_tokens=8_192,
        output_tokens_max=2_048,
        aliases=("fast",),
        features=_TRITON,
        fallbacks=("turnstream-capable",),
        price=Price(input=0.10, cached_input=0.05, output=0.40),
    ),
    ModelCard(
        id="turnstream-capable",
        pool="capable",
        context_tokens=32_768,
        output_tokens_max=8_192,
        aliases=("capable",),
        features=_TRITON,
        fallbacks=("turnstream-fast",),
        price=Price(input=1.00, cached_input=0.50, output=4.00),
    ),
)


def by_id(catalogue: tuple[ModelCard, ...]) -> Mapping[str, ModelCard]:
    """The catalogue by model id. Raises ValueError when an id occurs twice."""
    cards = {card.id: card for card in catalogue}
    if len(cards) != len(catalogue):
        raise ValueError("a model id occurs twice in the catalogue")
    return cards


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The models by id and by every name that stands for one of them; ``auto`` stands for none."""

    cards: Mapping[str, ModelCard]
    names: Mapping[str, ModelCard]

    @classmethod
    def of(cls, catalogue: tuple[ModelCard, ...]) -> "Catalogue":
        """The catalogue of the settings. Raises ValueError for an ambiguous name or a fallback that does not exist."""
        cards = by_id(catalogue)
        names = dict(cards)
        for card in catalogue:
            for alias in card.aliases:
                if alias == AUTO or alias in names:
                    raise ValueError(f"{card.id}: the alias {alias} is taken")
                names[alias] = card
            unknown = sorted(set(card.fallbacks) - cards.keys())
            if unknown:
                raise ValueError(f"{card.id}: no such fallback: {', '.join(unknown)}")
        if AUTO in cards:
            raise ValueError(f"{AUTO} is not a name for one model")
        return cls(cards, names)

    def knows(self, name: str) -> bool:
        """Whether a client may send this name at all."""
        return name == AUTO or name in self.names
