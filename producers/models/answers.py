"""What Models answers, as ``/openapi.json`` tells it."""

from typing import Literal

from pydantic import BaseModel, Field


class Model(BaseModel):
    """A model as this account may use it; `auto` has no lengths and prices of its own."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    tier: str
    aliases: list[str]
    context_length: int = Field(default=0, description="Tokens; of prompt and answer together.")
    max_output_tokens: int = 0
    features: list[str] = []
    fallbacks: list[str] = []
    stands_for: list[str] = Field(default=[], description="What `auto` chooses from.")
