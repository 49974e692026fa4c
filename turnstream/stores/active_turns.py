"""Which turns may be running in which conversations: the port ``ActiveTurns`` on the table ``active_turns``."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from schemas.errors import Retryable
from schemas.ports import Cql

_ACTIVE: Final = "SELECT turn_id FROM active_turns WHERE conversation_id = ?"
_BEGIN: Final = "INSERT INTO active_turns (conversation_id, turn_id) VALUES (?, ?)"
_END: Final = "DELETE FROM active_turns WHERE conversation_id = ? AND turn_id = ?"


class CassandraActiveTurns:
    """One statement per conversation or turn; ``Cql`` bounds how many are in flight.

    Turn ids are unique, so that a row is written by one turn alone: the clustering order is their order in time.
    """

    def __init__(self, cql: Cql) -> None:
        self._cql = cql

    async def active(self, conversation_ids: Sequence[str]) -> Mapping[str, Sequence[str]]:
        """Per conversation the ids of turns that began and were not ended, oldest first. Raises Retryable."""
        conversations = tuple(dict.fromkeys(conversation_ids))
        found = await _all(self._cql, [(_ACTIVE, (conversation_id,)) for conversation_id in conversations])
        return {
            conversation_id: tuple(row.turn_id for row in rows)
            for conversation_id, rows in zip(conversations, found, strict=True)
        }

    async def begin(self, turns: Mapping[str, str]) -> None:
        """Note turns (turn id -> conversation id), idempotently; notes expire by themselves. Raises Retryable."""
        await _all(self._cql, [(_BEGIN, (conversation_id, turn_id)) for turn_id, conversation_id in turns.items()])

    async def end(self, turns: Mapping[str, str]) -> None:
        """Forget turns (turn id -> conversation id), idempotently. Raises Retryable."""
        await _all(self._cql, [(_END, (conversation_id, turn_id)) for turn_id, conversation_id in turns.items()])


async def _all(cql: Cql, statements: Sequence[tuple[str, tuple[str, ...]]]) -> list[Sequence[Any]]:
    try:
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(cql.execute(query, values)) for query, values in statements]
    except ExceptionGroup as failures:
        _, others = failures.split(Retryable)
        if others is not None:
            raise others.exceptions[0] from failures
        raise Retryable(f"{len(failures.exceptions)} statements about active turns failed") from failures
    return [task.result() for task in running]
