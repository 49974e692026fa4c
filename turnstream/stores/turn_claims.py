"""Idempotency keys and their turns: the port ``TurnClaims`` on the table ``turn_claims``."""

from typing import Any, Final

from schemas.ports import Cql, TurnClaim

_CLAIM: Final = (
    "INSERT INTO turn_claims (scope, turn_id, conversation_id, tokens_from, request_hash)"
    " VALUES (?, ?, ?, ?, ?) IF NOT EXISTS"
)
_REPLACE: Final = (
    "UPDATE turn_claims SET turn_id = ?, conversation_id = ?, tokens_from = ?, request_hash = ?"
    " WHERE scope = ? IF turn_id = ?"
)


class CassandraTurnClaims:
    """Lightweight transactions: of all edges that claim a key at once, one wins.

    A statement whose answer was lost may be repeated: a claim that is found to be there already is told apart by its
    turn id, which no other request has.
    """

    def __init__(self, cql: Cql) -> None:
        self._cql = cql

    async def claim(self, scope: str, wanted: TurnClaim) -> TurnClaim:
        """The claim that holds ``scope``: ``wanted`` if it was free, else the one that is there.

        Raises Retryable; ``wanted`` may hold it then, or not.
        """
        values = (scope, wanted.turn_id, wanted.conversation_id, wanted.tokens_from, wanted.request_hash)
        (row,) = await self._cql.execute(_CLAIM, values)
        return wanted if row.applied else _claim(row)

    async def replace(self, scope: str, turn_id: str, wanted: TurnClaim) -> TurnClaim:
        """The claim that holds ``scope`` now: ``wanted`` if it was that of ``turn_id``. Raises Retryable."""
        values = (wanted.turn_id, wanted.conversation_id, wanted.tokens_from, wanted.request_hash, scope, turn_id)
        (row,) = await self._cql.execute(_REPLACE, values)
        # The old claim may also have expired since it was seen.
        return wanted if row.applied else await self.claim(scope, wanted)


def _claim(row: Any) -> TurnClaim:
    return TurnClaim(
        turn_id=row.turn_id,
        conversation_id=row.conversation_id,
        tokens_from=row.tokens_from,
        request_hash=row.request_hash,
    )
