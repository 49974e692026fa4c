"""Sessions in Cassandra: the port ``Sessions`` on the table ``sessions``."""

from typing import Any, Final

from producers.accounts.ports import Refreshed, RefreshOutcome, Session
from schemas.ports import Cql
from schemas.timestamps import unix_ms

_BEGIN: Final = (
    "INSERT INTO sessions (session_id, tenant_id, user_id, refresh_hash, ended, expires_at)"
    " VALUES (?, ?, ?, ?, false, ?) IF NOT EXISTS USING TTL ?"
)
_FIND: Final = "SELECT tenant_id, user_id, refresh_hash, ended, expires_at FROM sessions WHERE session_id = ?"
_ROTATE: Final = (
    "UPDATE sessions USING TTL ? SET refresh_hash = ? WHERE session_id = ? IF refresh_hash = ? AND ended = false"
)
_END: Final = "UPDATE sessions USING TTL ? SET ended = true WHERE session_id = ? IF EXISTS"


class CassandraSessions:
    """Lightweight transactions: of all that use one refresh token at once, one wins.

    A statement whose answer was lost may be repeated: a rotation that is found to be done already is told apart by
    the hash of the next token, which no other request has.
    """

    def __init__(self, cql: Cql) -> None:
        self._cql = cql

    async def begin(self, session: Session, now_ms: int) -> None:
        """Keep a new session until it expires. Raises Retryable."""
        values = (session.session_id, session.tenant_id, session.user_id, session.refresh_hash, session.expires_at_ms)
        await self._cql.execute(_BEGIN, (*values, _seconds_left(session.expires_at_ms, now_ms)))

    async def refresh(self, session_id: str, used_hash: str, next_hash: str, now_ms: int) -> Refreshed:
        """Replace the one token that may be used, once: of two that try, one gets REUSED. Raises Retryable."""
        session = await self._find(session_id)
        if session is None or session.expires_at_ms <= now_ms:
            return Refreshed(RefreshOutcome.GONE)
        seconds = _seconds_left(session.expires_at_ms, now_ms)
        (row,) = await self._cql.execute(_ROTATE, (seconds, next_hash, session_id, used_hash))
        if row.applied:
            return Refreshed(RefreshOutcome.ROTATED, session)
        present, ended = getattr(row, "refresh_hash", None), getattr(row, "ended", None)
        if present is None or ended is not False:
            return Refreshed(RefreshOutcome.GONE)
        return Refreshed(RefreshOutcome.ROTATED if present == next_hash else RefreshOutcome.REUSED, session)

    async def end(self, session_id: str, now_ms: int) -> Session | None:
        """End a session, idempotently; what it was, or None when there is none (any more). Raises Retryable."""
        session = await self._find(session_id)
        if session is not None:
            await self._cql.execute(_END, (_seconds_left(session.expires_at_ms, now_ms), session_id))
        return session

    async def _find(self, session_id: str) -> Session | None:
        rows = await self._cql.execute(_FIND, (session_id,))
        return _session(session_id, rows[0]) if rows and rows[0].expires_at is not None else None


def _session(session_id: str, row: Any) -> Session:
    return Session(
        session_id=session_id,
        tenant_id=row.tenant_id,
        user_id=row.user_id,
        refresh_hash=row.refresh_hash or "",
        expires_at_ms=unix_ms(row.expires_at),
    )


def _seconds_left(expires_at_ms: int, now_ms: int) -> int:
    # At least one: a TTL of 0 means for ever.
    return max(1, (expires_at_ms - now_ms) // 1000)
