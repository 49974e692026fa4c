"""What is stored of a turn beside its answer."""

import json
from typing import Any

from producers.ingest.ports import IngestPorts
from schemas import ids
from schemas.ports import StoredAnswer, StoredMessage


async def own_messages(ports: IngestPorts, stored: StoredAnswer) -> list[StoredMessage]:
    """The messages of the turn's own input, oldest first. Raises Retryable."""
    before = await ports.pages.page(
        stored.conversation_id, ids.MESSAGES_PER_TURN_MAX, stored.answer_seq, newest_first=True
    )
    return [message for message in reversed(before) if message.turn_id == stored.turn_id]


def metadata_of(stored: StoredAnswer) -> dict[str, str]:
    """What the client attached to the turn."""
    if stored.metadata is not None:
        return dict(stored.metadata)
    shown: dict[str, Any] = json.loads(stored.request.text) if stored.request is not None else {}
    metadata: dict[str, str] = shown.get("metadata") or {}
    return metadata
