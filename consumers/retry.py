"""When to try again after a Retryable, and when to give up. Pure."""

from pydantic import BaseModel, ConfigDict, Field


class RetryPolicy(BaseModel):
    """Exponential backoff with jitter, bounded in attempts and in the time spent waiting."""

    model_config = ConfigDict(frozen=True)

    attempts_max: int = Field(default=1_000, ge=1, description="Tries altogether, the first included.")
    first_delay_s: float = Field(default=0.05, gt=0)
    factor: float = Field(default=2, ge=1)
    delay_seconds_max: float = Field(default=5, gt=0)
    total_seconds_max: float = Field(default=300, gt=0, description="Sum of the delays.")

    def delay_s(self, attempt: int, jitter: float) -> float:
        """Seconds to wait after try number ``attempt`` (from 1) failed: between half and all of the step.

        ``jitter`` lies in [0, 1); without it, the consumers that lost a dependency together return together.
        """
        # Beyond this exponent a float would overflow long after the step reached its cap.
        step = min(self.delay_seconds_max, self.first_delay_s * self.factor ** min(attempt - 1, 64))
        return step * (0.5 + jitter / 2)

    def exhausted(self, attempt: int, waited_s: float) -> bool:
        """Whether to give up after try number ``attempt`` failed and ``waited_s`` seconds were waited before it."""
        return attempt >= self.attempts_max or waited_s >= self.total_seconds_max
