"""What the windows worker makes of a user's behaviour: the rung of the ladder on which the user stands."""

from enum import StrEnum
from typing import Literal

from pydantic import Field

from schemas.event import Event

AbuseCause = Literal["blocked_inputs", "burst", "many_keys"]


class AbuseLevel(StrEnum):
    """The rungs of the ladder, the lowest first."""

    NONE = "none"
    WARN = "warn"
    SLOW = "slow"
    SUSPEND = "suspend"


class AbuseSignalled(Event):
    """``abuse.signals.v1``: where a user stands from now on. The last record of a subject wins, until ``until_ms``."""

    tenant_id: str
    user_id: str
    level: AbuseLevel
    causes: tuple[AbuseCause, ...] = Field(default=(), description="What raised the level, sorted.")
    counts: dict[str, int] = Field(default={}, description="By cause, what was counted in its window.")
    until_ms: int | None = Field(default=None, ge=0, description="Unix milliseconds at which the level ends by itself.")
    signalled_at_ms: int = Field(ge=0, description="Unix milliseconds, the time of the event that caused it.")
