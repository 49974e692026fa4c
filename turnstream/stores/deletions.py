"""Notes what a user deletes, in the table ``deletions``."""

from typing import Final

from schemas.ports import Cql

_NOTE: Final = "INSERT INTO deletions (conversation_id, subject, deleted_at) VALUES (?, ?, ?)"


async def note_deletion(cql: Cql, conversation_id: str, subject: str, now_ms: int) -> None:
    """Say that ``subject`` (``schemas.deletions``) is deleted, before it is. Raises Retryable."""
    await cql.execute(_NOTE, (conversation_id, subject, now_ms))
