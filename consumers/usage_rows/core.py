"""Which row a usage event becomes. Pure."""

from schemas.events import UsageRecorded
from schemas.ports import UsageRow


def row_of(event: UsageRecorded) -> UsageRow | None:
    """The row of a turn; None for one that never reached a model."""
    if event.unused:
        return None
    return UsageRow(
        tenant_id=event.tenant_id,
        user_id=event.user_id,
        turn_id=event.turn_id,
        key_id=event.key_id,
        model=event.model,
        prompt_tokens=event.usage.prompt_tokens,
        completion_tokens=event.usage.completion_tokens,
        cached_tokens=event.usage.cached_tokens,
        submitted_at_ms=event.submitted_at_ms,
    )
