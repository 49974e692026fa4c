"""When the windows worker calls behaviour abuse, and what follows."""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.abuse import AbuseCause


class Rungs(BaseModel):
    """From which count on a cause lifts a user to each rung. None: this cause never leads there."""

    model_config = ConfigDict(frozen=True)

    warn: int | None = Field(default=None, ge=1)
    slow: int | None = Field(default=None, ge=1)
    suspend: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _rise(self) -> Self:
        counts = [count for count in (self.warn, self.slow, self.suspend) if count is not None]
        if counts != sorted(counts):
            raise ValueError("the thresholds must rise from warn over slow to suspend")
        return self


class AbuseSettings(BaseModel):
    """The ladder. A user rises where a count in its window reaches a threshold, and falls after a quiet time."""

    model_config = ConfigDict(frozen=True)

    enabled: bool = Field(default=True, description="Whether signals are given at all.")
    blocked_inputs: Rungs = Field(
        default=Rungs(warn=5, slow=10, suspend=30), description="Inputs of a user that moderation blocked."
    )
    blocked_window_minutes: int = Field(default=10, ge=1, description="In which they are counted.")
    burst: Rungs = Field(default=Rungs(warn=300, slow=900), description="Turns of a user within a minute.")
    many_keys: Rungs = Field(
        default=Rungs(warn=20, slow=50), description="Keys and sessions that one address used; for each of their users."
    )
    keys_window_minutes: int = Field(default=10, ge=1, description="In which they are counted.")
    plans_exempt: tuple[str, ...] = Field(
        default=("enterprise",), description="Plans without signals for bursts and for many keys."
    )
    fall_share: float = Field(
        default=0.5, gt=0, le=1, description="Of a threshold: below it a user is quiet and may fall from its rung."
    )
    warn_seconds: int = Field(default=600, ge=1, description="How long a rung lasts after the last reason for it.")
    slow_seconds: int = Field(default=900, ge=1)
    suspend_seconds: int = Field(default=3_600, ge=1)
    signal_again_seconds: int = Field(
        default=60, ge=1, description="A level that is to last longer by so much is signalled again."
    )
    turns_remembered_max: int = Field(
        default=100, ge=1, description="Turns of a user that are known again when their record is repeated."
    )
    keys_per_origin_max: int = Field(default=200, ge=1, description="Keys of one address that are told apart.")
    origins_noted_max: int = Field(
        default=100_000, ge=1, description="Pairs of address and key that a worker has in mind, to tell each once."
    )
    origin_note_seconds: int = Field(default=30, ge=1, description="How often a key at an address is told.")

    @property
    def blocked_window_ms(self) -> int:
        """The window of blocked inputs."""
        return self.blocked_window_minutes * 60_000

    @property
    def keys_window_ms(self) -> int:
        """The window of keys at an address."""
        return self.keys_window_minutes * 60_000

    @property
    def blocked_remembered_max(self) -> int:
        """Blocked inputs of a user that are told apart: more change nothing."""
        rungs = self.blocked_inputs
        return max(rungs.warn or 1, rungs.slow or 1, rungs.suspend or 1)

    @property
    def many_keys_min(self) -> int | None:
        """The least number of keys that means anything to anybody; None: none does."""
        rungs = self.many_keys
        least = min((count for count in (rungs.warn, rungs.slow, rungs.suspend) if count is not None), default=None)
        return None if least is None else max(1, int(least * self.fall_share))

    def rungs(self, cause: AbuseCause) -> Rungs:
        """The thresholds of a cause."""
        by_cause: dict[AbuseCause, Rungs] = {
            "blocked_inputs": self.blocked_inputs,
            "burst": self.burst,
            "many_keys": self.many_keys,
        }
        return by_cause[cause]

    def duration_ms(self, rung: int) -> int:
        """How long rung 1 (warn), 2 (slow) or 3 (suspend) lasts."""
        return (self.warn_seconds, self.slow_seconds, self.suspend_seconds)[rung - 1] * 1_000
