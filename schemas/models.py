"""The models that clients may ask for, and the pools that serve them.

The edge lists them, auth checks entitlements against them, the prompt stage fits prompts to them.
"""

from collections.abc import Mapping
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.topics import POOLS

CATALOGUE_CREATED_S: Final = 1_795_219_200  # 2026-11-21, when the default catalogue was written down


class ModelCard(BaseModel):
    """One model of the catalogue, as ``GET /v1/models`` shows it and as prompts are fitted to it."""

    model_config = ConfigDict(frozen=True)

    id: str = Field(min_length=1, max_length=64, description="The name that clients send as ``model``.")
    pool: str = Field(description="The inference pool that serves it, one of ``schemas.topics.POOLS``.")
    context_tokens: int = Field(ge=2, description="Prompt and completion together, in tokens.")
    output_tokens_max: int = Field(ge=1, description="Completion tokens at most, whatever the client asks for.")
    owned_by: str = Field(default="turnstream", description="Shown to clients.")
    created: int = Field(default=CATALOGUE_CREATED_S, ge=0, description="Unix seconds, shown to clients.")

    @model_validator(mode="after")
    def _can_be_served(self) -> "ModelCard":
        if self.pool not in POOLS:
            raise ValueError(f"pool must be one of {', '.join(POOLS)}")
        if self.output_tokens_max >= self.context_tokens:
            raise ValueError("output_tokens_max must leave room for a prompt in context_tokens")
        return self


DEFAULT_CATALOGUE: Final = (
    ModelCard(id="turnstream-fast", pool="fast", context_tokens=8_192, output_tokens_max=2_048),
    ModelCard(id="turnstream-capable", pool="capable", context_tokens=32_768, output_tokens_max=8_192),
)


def by_id(catalogue: tuple[ModelCard, ...]) -> Mapping[str, ModelCard]:
    """The catalogue by model id. Raises ValueError when an id occurs twice."""
    cards = {card.id: card for card in catalogue}
    if len(cards) != len(catalogue):
        raise ValueError("a model id occurs twice in the catalogue")
    return cards
