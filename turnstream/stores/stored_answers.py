"""Answers of ended turns, cut into the pieces in which they were streamed: the port ``StoredAnswers``."""

import asyncio
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any, Final

from schemas.answer_extras import DeltaExtra, read_extras
from schemas.content import Content
from schemas.deletions import turn_subject
from schemas.events import CHAT, Api, FinishReason, Usage
from schemas.ports import Cql, StoredAnswer, StoredPiece
from schemas.timestamps import unix_ms
from turnstream.clocks import now_ms
from turnstream.stores.deletions import note_deletion

_TURN: Final = (
    "SELECT conversation_id, tenant_id, user_id, model, answer_seq, piece_chars, finish_reason, prompt_tokens,"
    " completion_tokens, cached_tokens, submitted_at, api, request, choices, choice_reasons, extras, metadata, deleted"
    " FROM turns WHERE turn_id = ?"
)
_DELETED: Final = "SELECT deleted FROM turns WHERE turn_id = ?"
_ANSWER: Final = "SELECT content FROM messages WHERE conversation_id = ? AND message_seq = ?"
_SET_METADATA: Final = "UPDATE turns SET metadata = ? WHERE turn_id = ?"
_DELETE: Final = "UPDATE turns SET deleted = true WHERE turn_id = ?"
_FORGET: Final = "DELETE FROM turns_by_user WHERE tenant_id = ? AND user_id = ? AND api = ? AND turn_id = ?"
_OF_USER: Final = "SELECT turn_id, model FROM turns_by_user WHERE tenant_id = ? AND user_id = ? AND api = ?"


class CassandraStoredAnswers:
    """Two reads by primary key: the row of the turn, then the message with its text."""

    def __init__(self, cql: Cql) -> None:
        self._cql = cql

    async def find(self, turn_id: str) -> StoredAnswer | None:
        """The answer of an ended turn, or None when no such turn was stored, or its text is gone. Raises Retryable.

        The two rows are not written atomically: a turn whose text does not agree with its pieces is not stored yet.
        """
        for turn in await self._cql.execute(_TURN, (turn_id,)):
            # A row of which there is a deletion alone has no owner.
            if turn.deleted or turn.conversation_id is None:
                return None
            chars: Sequence[int] = turn.piece_chars or ()
            text = await self._text(turn) if any(chars) else ""
            if len(text) == sum(chars):
                return _stored(turn_id, turn, _pieces(text, chars, read_extras(turn.extras)))
        return None

    async def deleted(self, turn_id: str) -> bool:
        """Whether the turn's object was deleted. Raises Retryable."""
        return any(row.deleted for row in await self._cql.execute(_DELETED, (turn_id,)))

    async def set_metadata(self, turn_id: str, metadata: Mapping[str, str]) -> None:
        """Replace the metadata of a turn that is there. Raises Retryable."""
        await self._cql.execute(_SET_METADATA, (dict(metadata), turn_id))

    async def delete(self, stored: StoredAnswer) -> None:
        """Delete the turn's object; its messages stay with their conversation. Raises Retryable."""
        await note_deletion(self._cql, stored.conversation_id, turn_subject(stored.turn_id), now_ms())
        await self._cql.execute(_DELETE, (stored.turn_id,))
        await self._cql.execute(_FORGET, (stored.tenant_id, stored.user_id, stored.api, stored.turn_id))

    async def of_user(
        self, owner: tuple[str, str], api: Api, after: str | None, limit: int, *, newest_first: bool
    ) -> Sequence[str]:
        """Ids of up to ``limit`` turns of (tenant, user) beyond ``after``, in order of their ids. Raises Retryable."""
        query, values = _OF_USER, [*owner, api]
        if after is not None:
            query += " AND turn_id < ?" if newest_first else " AND turn_id > ?"
            values.append(after)
        query += f" ORDER BY turn_id {'DESC' if newest_first else 'ASC'} LIMIT ?"
        return [row.turn_id for row in await self._cql.execute(query, (*values, limit))]

    async def find_all(self, turn_ids: Sequence[str]) -> Sequence[StoredAnswer]:
        """Those of the turns that are there, in order. Raises Retryable."""
        found = await asyncio.gather(*(self.find(turn_id) for turn_id in turn_ids))
        return [stored for stored in found if stored is not None]

    async def _text(self, turn: Any) -> str:
        rows = await self._cql.execute(_ANSWER, (turn.conversation_id, turn.answer_seq))
        return "".join(row.content for row in rows)


def _pieces(text: str, chars: Sequence[int], extras: Mapping[int, DeltaExtra]) -> tuple[StoredPiece, ...]:
    texts = [text[start:end] for start, end in pairwise(accumulate(chars, initial=0))]
    return tuple(stored_piece(piece, extras.get(seq)) for seq, piece in enumerate(texts))


def stored_piece(text: str, extra: DeltaExtra | None) -> StoredPiece:
    """What a delta said, from the text that was kept and what else was."""
    if extra is None:
        return StoredPiece(text)
    said = text if extra.text is None else extra.text.text
    return StoredPiece(said, extra.choice, extra.tool_calls, extra.logprobs)


def _stored(turn_id: str, turn: Any, pieces: tuple[StoredPiece, ...]) -> StoredAnswer:
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
        answer_seq=turn.answer_seq,
        api=turn.api or CHAT,
        request=None if turn.request is None else Content(turn.request),
        metadata=turn.metadata,
        choices=turn.choices or 1,
        choice_reasons=tuple(FinishReason(reason) for reason in turn.choice_reasons or ()),
    )
