"""What the limiter says of itself."""

from typing import Literal

from pydantic import Field

from schemas.event import Event


class LimitWindow(Event):
    """One quota as a reservation found and left it: ``used`` of ``limit`` units, whole again after ``reset_ms``."""

    scope: Literal["user", "tenant", "key"]
    kind: Literal["requests", "tokens", "concurrent_turns"]
    period: Literal["minute", "day"] | None = None
    limit: int = Field(ge=0)
    used: int = Field(ge=0)
    reset_ms: int = Field(default=0, ge=0)


class LimitLedgered(Event):
    """``limits.ledger.v1``: what the limiter did for a turn, so that every 429 can be explained."""

    turn_id: str
    tenant_id: str
    user_id: str
    key_id: str
    plan: str
    entry: Literal["reserved", "refused", "settled", "released"]
    tokens: int = Field(ge=0, description="Asked for, or used when settled.")
    windows: tuple[LimitWindow, ...] = Field(default=(), description="The quotas after the entry.")
    refused_by: LimitWindow | None = Field(default=None, description="The quota that had no room.")
    ledgered_at_ms: int = Field(ge=0)
