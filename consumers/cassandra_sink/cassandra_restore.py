"""The rows of a rebuild in Cassandra: written like the sink's, read back, and compared column by column."""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from enum import Enum, auto
from typing import Any, Final

from consumers.cassandra_sink.cassandra_rows import (
    CassandraRows,
    message_values,
    turn_of_user_values,
    turn_values,
)
from consumers.cassandra_sink.restored import Deletions, RestoredRows, is_above, next_above
from consumers.cassandra_sink.rows import ConversationRow, MessageRow, TitleRow, TurnRow
from consumers.cassandra_sink.titles import LATEST_MS
from schemas.deletions import CONVERSATION, message_of, turn_of
from schemas.ports import Owner, WritingCql
from schemas.timestamps import unix_ms

_OWNER: Final = "SELECT deleted_at FROM conversation_owners WHERE conversation_id = ?"
_OWN: Final = (
    "INSERT INTO conversation_owners (conversation_id, tenant_id, user_id, created_at) VALUES (?, ?, ?, ?)"
    " USING TIMESTAMP ?"
)
_DELETIONS: Final = "SELECT subject, deleted_at FROM deletions WHERE conversation_id = ?"
_MESSAGES: Final = (
    "SELECT message_seq, parent_seq, turn_id, role, name, content, tool_calls, tool_call_id, status, finish_reason,"
    " model, prompt_tokens, completion_tokens, created_at, deleted_at FROM messages"
    " WHERE conversation_id = ? AND message_seq IN ?"
)
_FIRST: Final = "SELECT message_seq FROM messages WHERE conversation_id = ? ORDER BY message_seq ASC LIMIT 1"
_TURN: Final = (
    "SELECT turn_id, conversation_id, tenant_id, user_id, model, answer_seq, piece_chars, finish_reason, prompt_tokens,"
    " completion_tokens, cached_tokens, submitted_at, api, request, choices, choice_reasons, extras, deleted"
    " FROM turns"
    " WHERE turn_id = ?"
)
_LISTED: Final = (
    "SELECT tenant_id, user_id, api, turn_id, model FROM turns_by_user"
    " WHERE tenant_id = ? AND user_id = ? AND api = ? AND turn_id = ?"
)
_CONVERSATION: Final = (
    "SELECT last_turn_id, updated_at, auto_title, WRITETIME(last_turn_id) AS turn_us, WRITETIME(auto_title) AS title_us"
    " FROM conversations WHERE tenant_id = ? AND user_id = ? AND conversation_id = ?"
)
_SUBMITTED: Final = "SELECT submitted_at FROM turns WHERE turn_id = ?"
_DELETE_MESSAGE: Final = (
    "UPDATE messages USING TIMESTAMP ? SET deleted_at = ?, content = null, name = null, tool_calls = null"
    " WHERE conversation_id = ? AND message_seq = ?"
)
_DELETE_MESSAGES: Final = "DELETE FROM messages USING TIMESTAMP ? WHERE conversation_id = ?"
_DELETE_TURN: Final = "UPDATE turns SET deleted = true WHERE turn_id = ?"

_US_PER_MS: Final = 1_000
# Of `_MESSAGES` and of the values of a message, without the conversation before and the time after them.
_CREATED: Final = 13
_DELETED: Final = 14
_HIDDEN: Final = (4, 5, 6)
_TURN_SUBMITTED: Final = 11
_TURN_LISTS: Final = (6, 15)


class _Turn(Enum):
    """How a turn's row was found."""

    ABSENT = auto()
    THERE = auto()
    DELETED = auto()


class CassandraRestore:
    """``RestoreStore`` over the sink's tables, ``conversation_owners`` and ``deletions``."""

    def __init__(self, cql: WritingCql) -> None:
        self._cql = cql
        self._rows = CassandraRows(cql)

    async def deletions(self, conversation_id: str) -> Deletions:
        """As ``RestoreStore.deletions``: the owner's row tells of deletions before they were noted, too."""
        owners, noted = await _all(
            self._cql.execute(_OWNER, (conversation_id,)), self._cql.execute(_DELETIONS, (conversation_id,))
        )
        marks = {row.subject: unix_ms(row.deleted_at) for row in noted}
        return Deletions(
            known=bool(owners),
            conversation=CONVERSATION in marks or any(row.deleted_at is not None for row in owners),
            messages={seq: at_ms for subject, at_ms in marks.items() if (seq := message_of(subject)) is not None},
            turns=frozenset(turn_id for subject in marks if (turn_id := turn_of(subject)) is not None),
        )

    async def own(self, owner: Owner, conversation_id: str, created_at_ms: int, written_us: int) -> None:
        """As ``RestoreStore.own``."""
        values = (conversation_id, owner.tenant_id, owner.user_id, created_at_ms, written_us)
        await self._cql.execute(_OWN, values)

    async def write(self, rows: RestoredRows) -> None:
        """As ``RestoreStore.write``: deletions first, so that nothing deleted can be read in between."""
        by_seq = {row.message_seq: row for row in rows.messages}
        deleting: list[Awaitable[object]] = [
            self._delete_message(by_seq[seq], deleted_ms)
            for seq, deleted_ms in rows.deleted_ms.items()
            if seq in by_seq
        ]
        wanted = {row.turn_id for row in rows.turns} & rows.deleted_turns
        deleting += [self._cql.execute(_DELETE_TURN, (turn_id,)) for turn_id in wanted]
        await _all(*deleting)
        conversations = [] if rows.conversation is None else [rows.conversation]
        titles = [] if rows.title is None else [rows.title]
        await self._rows.write(rows.messages, conversations, (), titles)
        await self._rows.write_turns(rows.turns, rows.listed)

    async def unreadable(self, rows: RestoredRows) -> RestoredRows:
        """As ``RestoreStore.unreadable``."""
        messages, turns, listed, (conversation, title) = await asyncio.gather(
            self._messages(rows),
            asyncio.gather(*(self._turn(row) for row in rows.turns)),
            asyncio.gather(*(self._is_listed(row) for row in rows.listed)),
            self._conversation(rows),
        )
        there = {row.turn_id: state for row, state in zip(rows.turns, turns, strict=True)}
        return replace(
            rows,
            messages=messages,
            turns=tuple(row for row in rows.turns if there[row.turn_id] is _Turn.ABSENT),
            # Deleted by its user before such deletions were noted: it is in no list.
            listed=tuple(
                row
                for row, found in zip(rows.listed, listed, strict=True)
                if not found and there.get(row.turn_id) is not _Turn.DELETED
            ),
            conversation=conversation,
            title=title,
        )

    async def delete_again(self, conversation_id: str, deletions: Deletions, now_ms: int) -> None:
        """As ``RestoreStore.delete_again``."""
        written_us = now_ms * _US_PER_MS
        if deletions.conversation:
            await self._cql.execute(_DELETE_MESSAGES, (written_us, conversation_id))
            return
        await _all(
            *(
                self._cql.execute(_DELETE_MESSAGE, (written_us, deleted_ms, conversation_id, seq))
                for seq, deleted_ms in deletions.messages.items()
            )
        )

    async def _delete_message(self, row: MessageRow, deleted_ms: int) -> None:
        # At equal times a deletion wins, so the row that is written next hides nothing of it.
        written_us = max(deleted_ms * _US_PER_MS, row.written_us)
        await self._cql.execute(_DELETE_MESSAGE, (written_us, deleted_ms, row.conversation_id, row.message_seq))

    async def _messages(self, rows: RestoredRows) -> tuple[MessageRow, ...]:
        if not rows.messages:
            return ()
        conversation_id = rows.messages[0].conversation_id
        seqs = [row.message_seq for row in rows.messages]
        found = {row[0]: tuple(row) for row in await self._cql.execute(_MESSAGES, (conversation_id, seqs))}
        return tuple(
            row
            for row in rows.messages
            if not _is_message(found.get(row.message_seq), row, rows.deleted_ms.get(row.message_seq))
        )

    async def _turn(self, row: TurnRow) -> "_Turn":
        expected = _comparable(turn_values(row)[:-1])
        for *found, deleted in await self._cql.execute(_TURN, (row.turn_id,)):
            if _comparable(found) == expected:
                return _Turn.DELETED if deleted else _Turn.THERE
        return _Turn.ABSENT

    async def _is_listed(self, row: TurnRow) -> bool:
        expected = turn_of_user_values(row)[:-1]
        return any(tuple(found) == expected for found in await self._cql.execute(_LISTED, expected[:4]))

    async def _conversation(self, rows: RestoredRows) -> tuple[ConversationRow | None, TitleRow | None]:
        wanted = rows.conversation or rows.title
        if wanted is None:
            return None, None
        key = (wanted.tenant_id, wanted.user_id, wanted.conversation_id)
        found = next(iter(await self._cql.execute(_CONVERSATION, key)), None)
        if found is None:
            return rows.conversation, rows.title
        conversation = None if rows.conversation is None else await self._behind(found, rows.conversation)
        return conversation, None if rows.title is None else await self._untitled(found, rows)

    async def _behind(self, found: Any, row: ConversationRow) -> ConversationRow | None:
        """``row``, not before the time that it needs, where the row that was found is not as new."""
        if found.last_turn_id is None or found.updated_at is None:
            return row
        if found.last_turn_id == row.last_turn_id:
            return row if unix_ms(found.updated_at) != row.updated_at_ms else None
        # Between two times of the sink, the newer one holds; a rebuild's own is no time of the turn.
        if not is_above(found.turn_us) or not await self._is_older(found.last_turn_id, row.last_turn_id):
            return None
        return replace(row, written_us=next_above(found.turn_us))

    async def _is_older(self, found: str, own: str) -> bool:
        """Whether the turn ``found`` was submitted before ``own``; ids tell where the rows do not."""
        theirs, ours = await _all(self._cql.execute(_SUBMITTED, (found,)), self._cql.execute(_SUBMITTED, (own,)))
        times = [row.submitted_at for row in (*theirs, *ours) if row.submitted_at is not None]
        return (times[0], found) < (times[1], own) if len(times) == len((found, own)) else found < own

    async def _untitled(self, found: Any, rows: RestoredRows) -> TitleRow | None:
        row = rows.title
        if row is None or found.auto_title == row.auto_title:
            return None
        if found.auto_title is None:
            return row
        if found.title_us < LATEST_MS:
            return None
        # A rebuild's own title is that of the earliest turn that it has met.
        first = [each.message_seq for each in await self._cql.execute(_FIRST, (row.conversation_id,))]
        opens = {message.message_seq for message in rows.messages if message.message_seq in first}
        return replace(row, written_us=next_above(found.title_us)) if opens else None


async def _all(*calls: Awaitable[Any]) -> Sequence[Any]:
    return await asyncio.gather(*calls)


def _is_message(found: tuple[Any, ...] | None, row: MessageRow, deleted_ms: int | None) -> bool:
    if found is None:
        return False
    if found[_DELETED] is not None and deleted_ms is None:
        # Deleted by its user before such deletions were noted.
        return True
    there, expected = list(found[:_DELETED]), list(message_values(row)[1:-1])
    there[_CREATED] = None if there[_CREATED] is None else unix_ms(there[_CREATED])
    if deleted_ms is not None:
        for place in _HIDDEN:
            expected[place] = None
    gone_ms = None if found[_DELETED] is None else unix_ms(found[_DELETED])
    return there == expected and gone_ms == deleted_ms


def _comparable(values: Sequence[Any]) -> list[Any]:
    """The columns of a turn, in the form in which those written and those read are equal."""
    same = list(values)
    if same[_TURN_SUBMITTED] is not None and not isinstance(same[_TURN_SUBMITTED], int):
        same[_TURN_SUBMITTED] = unix_ms(same[_TURN_SUBMITTED])
    for place in _TURN_LISTS:
        same[place] = list(same[place] or ())
    return same
