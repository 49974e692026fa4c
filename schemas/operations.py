"""What operators did, for those who ask later."""

from pydantic import Field

from schemas.event import Event


class OperatorActed(Event):
    """``operations.audit.v1``: one action of an operator. It is written before the action, and again with its outcome.

    ``details`` hold ids, counts and settings, never content and never credentials.
    """

    action_id: str = Field(description="The same for what was begun and what came of it.")
    actor: str = Field(description="`<tenant>/<user>` of the operator's key, or `os:<login>` without one.")
    action: str = Field(
        description="What was done, as `<noun>.<verb>`: `dlq.redrive`, `replay.shadow`, `keys.revoke` ..."
    )
    subject: str = Field(description="To what: an id, a place `<topic>/<partition>/<offset>`, the id of a run.")
    outcome: str = Field(default="begun", description="begun, done or failed.")
    reason: str | None = Field(default=None, max_length=1_000, description="In the operator's words.")
    details: dict[str, str] = Field(default={})
    acted_at_ms: int = Field(ge=0, description="Unix milliseconds.")
