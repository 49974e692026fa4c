"""Plans: what an account may use. One setting, read by the edge, auth, rate_limit and prompt."""

from collections.abc import Mapping
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from schemas.models import DEFAULT_CATALOGUE

ALL_MODELS: Final = tuple(card.id for card in DEFAULT_CATALOGUE)


class Plan(BaseModel):
    """A plan. None: no limit of that kind. A tenant's limits are shared by all of its users on the plan."""

    model_config = ConfigDict(frozen=True)

    models: tuple[str, ...] = Field(default=ALL_MODELS, description="Models by id. Empty: none may be asked, 403.")
    requests_per_minute: int = Field(default=60, ge=1)
    requests_per_day: int | None = Field(default=None, ge=1)
    tokens_per_minute: int = Field(default=60_000, ge=1)
    tokens_per_day: int | None = Field(default=None, ge=1)
    tenant_requests_per_minute: int | None = Field(default=None, ge=1)
    tenant_tokens_per_minute: int | None = Field(default=None, ge=1)
    concurrent_turns_max: int | None = Field(default=None, ge=1, description="Turns of one user that run at once.")
    context_tokens_max: int | None = Field(default=None, ge=2, description="Prompt and answer, whatever the model can.")
    output_tokens_max: int | None = Field(default=None, ge=1, description="Of one answer, whatever the model can.")
    completion_tokens_default: int = Field(default=1_024, ge=1, description="Reserved when the client names none.")
    completion_tokens_max: int = Field(default=8_192, ge=1, description="Reserved at most; usage settles the rest.")

    @property
    def turn_tokens_max(self) -> int:
        """The largest reservation that can ever be granted."""
        return min(
            limit
            for limit in (self.tokens_per_minute, self.tenant_tokens_per_minute, self.tokens_per_day)
            if limit is not None
        )


DEFAULT_PLAN: Final = "free"
DEFAULT_PLANS: Final[Mapping[str, Plan]] = {
    "free": Plan(
        models=("turnstream-fast",),
        requests_per_day=2_000,
        tokens_per_day=2_000_000,
        concurrent_turns_max=20,
        context_tokens_max=8_192,
        output_tokens_max=2_048,
    ),
    "pro": Plan(
        requests_per_minute=1_000,
        requests_per_day=100_000,
        tokens_per_minute=1_000_000,
        tokens_per_day=100_000_000,
        concurrent_turns_max=200,
    ),
    "enterprise": Plan(
        requests_per_minute=100_000,
        tokens_per_minute=100_000_000,
        tenant_requests_per_minute=600_000,
        tenant_tokens_per_minute=600_000_000,
    ),
    "suspended": Plan(models=()),
}
_UNLISTED: Final = Plan(models=())


def plan_of(plans: Mapping[str, Plan], name: str) -> Plan:
    """The plan of that name. One that is not listed has no models, and the least limits for turns under way."""
    return plans.get(name, _UNLISTED)
