"""The stateless processors as rows of data: where each reads and where it may write.

A running stage is a row and a ``BatchProcess`` (built by the stage's ``stage.py``) in the one consume loop.
"""

from dataclasses import dataclass
from typing import Final

from schemas.topics import (
    INFERENCE_REQUESTS,
    LIMITS_LEDGER,
    MODERATION_DECISIONS,
    TOKENS,
    TURNS_ADMITTED,
    TURNS_AUTHORIZED,
    TURNS_PROMPTED,
    TURNS_SUBMITTED,
    USAGE_EVENTS,
    Topic,
)


@dataclass(frozen=True, slots=True)
class StageRow:
    """One processor: its name in logs, metrics and ``--only``, its source topic and its possible sink topics.

    The first sink is where a turn goes on.
    """

    name: str
    source: Topic
    sinks: tuple[Topic, ...]

    @property
    def group(self) -> str:
        """The consumer group in which the stage reads its source."""
        return f"turnstream.{self.name}"


AUTH: Final = StageRow("auth", TURNS_SUBMITTED, (TURNS_AUTHORIZED, TOKENS))
RATE_LIMIT: Final = StageRow("rate_limit", TURNS_AUTHORIZED, (TURNS_ADMITTED, TOKENS, LIMITS_LEDGER))
RATE_LIMIT_SETTLE: Final = StageRow("rate_limit_settle", USAGE_EVENTS, (LIMITS_LEDGER,))
PROMPT: Final = StageRow("prompt", TURNS_ADMITTED, (TURNS_PROMPTED, TOKENS, USAGE_EVENTS))
MODERATION: Final = StageRow(
    "moderation", TURNS_PROMPTED, (TOKENS, *INFERENCE_REQUESTS.values(), MODERATION_DECISIONS, USAGE_EVENTS)
)

ROWS: Final = (AUTH, RATE_LIMIT, RATE_LIMIT_SETTLE, PROMPT, MODERATION)
