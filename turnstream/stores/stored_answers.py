"""Answers of ended turns, cut into the pieces in which they were streamed: the port ``StoredAnswers``."""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, Final

from schemas.events import FinishReason, Usage
from schemas.ports import Cql, StoredAnswer
from schemas.timestamps import unix_ms

_TURN: Final = (
    "SELECT conversation_id, tenant_id, user_id, model, answer_seq, piece_chars, finish_reason, prompt_tokens,"
    " completion_tokens, cached_tokens, submitted_at FROM turns WHERE turn_id = ?"
)
_ANSWER: Final = "SELECT content FROM messages WHERE conversation_id = ? AND message_seq = ?"


class CassandraStoredAnswers:
    """Two reads by primary key: the row of the turn, then the message with its text."""

    def __init__(self, cql: Cql) -> None:
        self._cql = cql

    async def find(self, turn_id: str) -> StoredAnswer | None:
        """The answer of an ended turn, or None when no such turn was stored, or its text is gone. Raises Retryable.

        The two rows are not written atomically: a turn whose text does not agree with its pieces is not stored yet.
        """
        for turn in await self._cql.execute(_TURN, (turn_id,)):
            chars: Sequence[int] = turn.piece_chars or ()
            text = await self._text(turn) if any(chars) else ""
            if len(text) == sum(chars):
                return _stored(turn_id, turn, _cut(text, chars))
        return None

    async def _text(self, turn: Any) -> str:
        rows = await self._cql.execute(_ANSWER, (turn.conversation_id, turn.answer_seq))
        return "".join(row.content for row in rows)


def _cut(text: str, chars: Sequence[int]) -> tuple[str, ...]:
    return tuple(text[start:end] for start, end in pairwise(accumulate(chars, initial=0)))


def _stored(turn_id: str, turn: Any, pieces: tuple[str, ...]) -> StoredAnswer:
    usage = None
    if turn.prompt_tokens is not None:
        usage = Usage(
            prompt_tokens=turn.prompt_tokens,
            completion_tokens=turn.completion_tokens,
            cached_tokens=turn.cached_tokens,
        )
    return StoredAnswer(
        turn_id=turn_id,
        conversation_id=turn.conversation_id,
        tenant_id=turn.tenant_id,
        user_id=turn.user_id,
        model=turn.model,
        submitted_at_ms=unix_ms(turn.submitted_at),
        pieces=pieces,
        finish_reason=FinishReason(turn.finish_reason),
        usage=usage,
    )
