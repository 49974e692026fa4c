"""Which turns may be running in which conversations: the port ``ActiveTurns`` on the table ``active_turns``."""

from collections.abc import Mapping, Sequence
from typing import Final

from schemas.ports import Cql
from stream_processors.bounded_gather import execute_each

_ACTIVE: Final = "SELECT turn_id FROM active_turns WHERE conversation_id = ?"
_BEGIN: Final = "INSERT INTO active_turns (conversation_id, turn_id) VALUES (?, ?)"
_END: Final = "DELETE FROM active_turns WHERE conversation_id = ? AND turn_id = ?"
_IN_FLIGHT_MAX: Final = 64


class CassandraActiveTurns:
    """One statement per conversation or turn, up to 64 at once.

    Turn ids are unique, so that a row is written by one turn alone: the clustering order is their order in time.
    """

    def __init__(self, cql: Cql) -> None:
        self._cql = cql

    async def active(self, conversation_ids: Sequence[str]) -> Mapping[str, Sequence[str]]:
        """Per conversation the ids of turns that began and were not ended, oldest first. Raises Retryable."""
        conversations = tuple(dict.fromkeys(conversation_ids))
        values = [(conversation_id,) for conversation_id in conversations]
        found = await execute_each(self._cql, _ACTIVE, values, _IN_FLIGHT_MAX)
        return {
            conversation_id: tuple(row.turn_id for row in rows)
            for conversation_id, rows in zip(conversations, found, strict=True)
        }

    async def begin(self, turns: Mapping[str, str]) -> None:
        """Note turns (turn id -> conversation id), idempotently; notes expire by themselves. Raises Retryable."""
        await self._change(_BEGIN, turns)

    async def end(self, turns: Mapping[str, str]) -> None:
        """Forget turns (turn id -> conversation id), idempotently. Raises Retryable."""
        await self._change(_END, turns)

    async def _change(self, statement: str, turns: Mapping[str, str]) -> None:
        values = [(conversation_id, turn_id) for turn_id, conversation_id in turns.items()]
        await execute_each(self._cql, statement, values, _IN_FLIGHT_MAX)
