"""The sink's rows in Cassandra: one upsert each, with the timestamp that the row carries."""

from collections.abc import Sequence
from typing import Final

from consumers.cassandra_sink.rows import ConversationRow, MessageRow, TitleRow, TurnRow
from schemas.messages import encode_tool_calls
from schemas.ports import Upsert, WritingCql

_MESSAGE: Final = (
    "INSERT INTO messages (conversation_id, message_seq, parent_seq, turn_id, role, name, content, tool_calls,"
    " tool_call_id, status, finish_reason, model, prompt_tokens, completion_tokens, created_at)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?"
)
_TITLE: Final = (
    "INSERT INTO conversations (tenant_id, user_id, conversation_id, auto_title) VALUES (?, ?, ?, ?) USING TIMESTAMP ?"
)
_CONVERSATION: Final = (
    "INSERT INTO conversations (tenant_id, user_id, conversation_id, last_turn_id, updated_at)"
    " VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?"
)
_TURN: Final = (
    "INSERT INTO turns (turn_id, conversation_id, tenant_id, user_id, model, answer_seq, piece_chars, finish_reason,"
    " prompt_tokens, completion_tokens, cached_tokens, submitted_at, api, request, choices, choice_reasons, extras)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?"
)
_TURN_OF_USER: Final = (
    "INSERT INTO turns_by_user (tenant_id, user_id, api, turn_id, model) VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?"
)


class CassandraRows:
    """``ConversationRows`` over the tables ``messages``, ``conversations`` and ``turns``.

    The rows of one call are written at once; ``WritingCql`` bounds how many of them are in flight.
    """

    def __init__(self, cql: WritingCql) -> None:
        self._cql = cql

    async def write(
        self,
        messages: Sequence[MessageRow],
        conversations: Sequence[ConversationRow],
        turns: Sequence[TurnRow] = (),
        titles: Sequence[TitleRow] = (),
    ) -> None:
        """Return when all rows are durable. Raises Retryable, in which case any subset may be."""
        await self._cql.write(
            [
                *(Upsert((row.conversation_id,), _MESSAGE, message_values(row)) for row in messages),
                *(
                    Upsert((row.tenant_id, row.user_id), _CONVERSATION, _conversation_values(row))
                    for row in conversations
                ),
                *(Upsert((row.tenant_id, row.user_id), _TITLE, _title_values(row)) for row in titles),
                *_turn_upserts(turns, turns),
            ]
        )

    async def write_turns(self, turns: Sequence[TurnRow], listed: Sequence[TurnRow]) -> None:
        """Write ``turns``, and those of them that are ``listed`` to their user's list. Raises Retryable likewise."""
        await self._cql.write(_turn_upserts(turns, listed))


def _turn_upserts(turns: Sequence[TurnRow], listed: Sequence[TurnRow]) -> list[Upsert]:
    upserts = [Upsert((turn.turn_id,), _TURN, turn_values(turn)) for turn in turns]
    upserts += [
        Upsert((turn.tenant_id, turn.user_id, turn.api), _TURN_OF_USER, turn_of_user_values(turn)) for turn in listed
    ]
    return upserts


def message_values(row: MessageRow) -> tuple[object, ...]:
    """The values of the statement that writes a message; the conversation comes first, the time last."""
    return (
        row.conversation_id,
        row.message_seq,
        row.parent_seq,
        row.turn_id,
        row.role.value,
        row.name,
        row.content.text,
        encode_tool_calls(row.tool_calls),
        row.tool_call_id,
        row.status,
        row.finish_reason.value if row.finish_reason else None,
        row.model,
        row.prompt_tokens,
        row.completion_tokens,
        row.created_at_ms,
        row.written_us,
    )


def _conversation_values(row: ConversationRow) -> tuple[object, ...]:
    return (row.tenant_id, row.user_id, row.conversation_id, row.last_turn_id, row.updated_at_ms, row.written_us)


def _title_values(row: TitleRow) -> tuple[object, ...]:
    return (row.tenant_id, row.user_id, row.conversation_id, row.auto_title, row.written_us)


def turn_values(row: TurnRow) -> tuple[object, ...]:
    """The values of the statement that writes a turn; the time comes last."""
    usage = row.usage
    return (
        row.turn_id,
        row.conversation_id,
        row.tenant_id,
        row.user_id,
        row.model,
        row.answer_seq,
        row.piece_chars,
        row.finish_reason.value,
        usage.prompt_tokens if usage else None,
        usage.completion_tokens if usage else None,
        usage.cached_tokens if usage else None,
        row.submitted_at_ms,
        row.api,
        row.request.text if row.request else None,
        row.choices,
        [reason.value for reason in row.choice_reasons] or None,
        row.extras.text if row.extras else None,
        row.written_us,
    )


def turn_of_user_values(row: TurnRow) -> tuple[object, ...]:
    """The values of the statement that lists a turn; the four of the key come first, the time last."""
    return (row.tenant_id, row.user_id, row.api, row.turn_id, row.model, row.written_us)
