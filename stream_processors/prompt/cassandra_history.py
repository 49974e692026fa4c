"""The history of conversations in Cassandra: the table ``messages``."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from schemas.content import Content
from schemas.messages import Message, Role, decode_tool_calls
from schemas.ports import Cql, StoredMessage
from stream_processors.bounded_gather import execute_each

_COLUMNS: Final = (
    "SELECT message_seq, parent_seq, turn_id, role, name, content, tool_calls, tool_call_id, status, created_at,"
    " deleted_at FROM messages WHERE conversation_id = ? "
)
SELECT_NEWEST: Final = _COLUMNS + "LIMIT ?"
SELECT_OLDER: Final = _COLUMNS + "AND message_seq <= ? LIMIT ?"
STATUS_COMPLETE: Final = "complete"
STATUS_DRAFT: Final = "streaming"
# Turns of one conversation run one after the other; a few drafts may be left by turns that are still being settled.
DRAFTS_MAX: Final = 8
MS_PER_S: Final = 1_000


class CassandraHistory:
    """The ``History`` over Cassandra: one single-partition read per conversation, bounded and at once.

    An answer that was cut short is history too, since its reader saw it; a draft is not, since it still changes.
    """

    def __init__(self, cql: Cql, statements_in_flight_max: int) -> None:
        self._cql = cql
        self._in_flight_max = statements_in_flight_max

    async def recent(self, conversation_ids: Sequence[str], messages_max: int) -> Mapping[str, Sequence[StoredMessage]]:
        """As ``History.recent``; every conversation asked for is in the answer. Raises Retryable."""
        values = [(conversation_id, messages_max + DRAFTS_MAX) for conversation_id in conversation_ids]
        answers = await execute_each(self._cql, SELECT_NEWEST, values, self._in_flight_max)
        return {
            conversation_id: _oldest_first(rows, messages_max)
            for conversation_id, rows in zip(conversation_ids, answers, strict=True)
        }

    async def older(self, places: Sequence[tuple[str, int]], messages_max: int) -> Sequence[Sequence[StoredMessage]]:
        """As ``History.older``. Raises Retryable."""
        values = [(*place, messages_max + DRAFTS_MAX) for place in places]
        answers = await execute_each(self._cql, SELECT_OLDER, values, self._in_flight_max)
        return [_oldest_first(rows, messages_max) for rows in answers]


def _oldest_first(rows: Sequence[Any], messages_max: int) -> Sequence[StoredMessage]:
    final = [row for row in rows if row.status != STATUS_DRAFT][:messages_max]
    return [_stored(row) for row in reversed(final)]


def _stored(row: Any) -> StoredMessage:
    deleted = row.deleted_at is not None
    message = Message(role=Role(row.role), content=Content("")) if deleted else _message(row)
    return StoredMessage(
        message_seq=row.message_seq,
        turn_id=row.turn_id,
        message=message,
        complete=row.status == STATUS_COMPLETE,
        created_at_ms=_unix_ms(row.created_at),
        parent_seq=row.parent_seq,
        deleted=deleted,
    )


def _message(row: Any) -> Message:
    return Message(
        role=Role(row.role),
        content=Content(row.content or ""),
        name=row.name,
        tool_calls=decode_tool_calls(row.tool_calls),
        tool_call_id=row.tool_call_id,
    )


def _unix_ms(moment: datetime) -> int:
    # The driver answers with UTC that does not say so.
    return round(moment.replace(tzinfo=UTC).timestamp() * MS_PER_S)
