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


class AbuseEvidence(Event):
    """``abuse.evidence.v1``: something that counts for or against a user, on its way to the table that counts it.

    ``blocked_input``, ``many_keys`` and ``lifted`` are about the user; ``key_seen`` is about an address. The same
    evidence may come twice.
    """

    kind: Literal["blocked_input", "key_seen", "many_keys", "lifted"]
    tenant_id: str
    user_id: str
    turn_id: str | None = Field(default=None, description="The turn that gave it.")
    key_id: str | None = Field(default=None, description="Of `key_seen`: the key or session.")
    origin: str | None = Field(default=None, description="Of `key_seen` and `many_keys`: the hash of the address.")
    keys: int = Field(default=0, ge=0, description="Of `many_keys`: keys that the address used lately.")
    seen_at_ms: int = Field(ge=0, description="Unix milliseconds, the time of the event that gave it.")

    @property
    def subject_id(self) -> str:
        """What it is about, the key of its record: the address of `key_seen`, else the user."""
        return self.origin or "" if self.kind == "key_seen" else self.user_id
