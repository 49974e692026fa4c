"""Users in Cassandra: the port ``Users`` on the tables ``users``, ``users_by_tenant``, ``logins`` and ``tenants``."""

import zlib
from collections.abc import Sequence
from typing import Any, Final

from producers.accounts.ports import Login, User, UserChange
from schemas.accounts import AccountRole
from schemas.ports import Cql
from schemas.timestamps import unix_ms
from stream_processors.bounded_gather import execute_each

BUCKETS: Final = 16

_FIND: Final = (
    "SELECT tenant_id, user_id, email, plan, roles, suspended, created_at FROM users"
    " WHERE tenant_id = ? AND user_id = ?"
)
_INSERT: Final = (
    "INSERT INTO users (tenant_id, user_id, email, plan, roles, suspended, created_at)"
    " VALUES (?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?"
)
_CHANGE: Final = (
    "UPDATE users USING TIMESTAMP ? SET plan = ?, roles = ?, suspended = ? WHERE tenant_id = ? AND user_id = ?"
)
_DELETE: Final = "DELETE FROM users WHERE tenant_id = ? AND user_id = ?"
_ENTER: Final = "INSERT INTO users_by_tenant (tenant_id, bucket, user_id) VALUES (?, ?, ?)"
_LEAVE: Final = "DELETE FROM users_by_tenant WHERE tenant_id = ? AND bucket = ? AND user_id = ?"
_PAGE: Final = "SELECT user_id FROM users_by_tenant WHERE tenant_id = ? AND bucket = ? AND user_id > ? LIMIT ?"
_LOGIN: Final = "SELECT tenant_id, user_id, password_hash FROM logins WHERE email = ?"
_CLAIM: Final = "INSERT INTO logins (email, tenant_id, user_id, password_hash) VALUES (?, ?, ?, ?) IF NOT EXISTS"
_KEEP: Final = "UPDATE logins SET password_hash = ? WHERE email = ? IF EXISTS"
_TENANT: Final = "INSERT INTO tenants (tenant_id, name, created_at) VALUES (?, ?, ?) IF NOT EXISTS"
_IN_FLIGHT_MAX: Final = 32
_ROLES: Final = frozenset(AccountRole)


class CassandraUsers:
    """A row per user, an entry of its tenant, and a login, which is what makes an address unique."""

    def __init__(self, cql: Cql) -> None:
        self._cql = cql

    async def find(self, tenant_id: str, user_id: str) -> User | None:
        """One user. Raises Retryable."""
        rows = await self._cql.execute(_FIND, (tenant_id, user_id))
        return _user(rows[0]) if rows and rows[0].created_at is not None else None

    async def login(self, email: str) -> Login | None:
        """Who logs in with ``email``, if anybody does. Raises Retryable."""
        rows = await self._cql.execute(_LOGIN, (email,))
        return Login(rows[0].tenant_id, rows[0].user_id, rows[0].password_hash) if rows else None

    async def register(self, user: User, password_hash: str) -> bool:
        """Make ``user``; False, and nothing is made, when the address has a login. Raises Retryable."""
        # The login comes last: who can log in has a row that can be suspended.
        await self.add(user)
        (row,) = await self._cql.execute(_CLAIM, (user.email, user.tenant_id, user.user_id, password_hash))
        # An answer that was lost: the login that is there is the one that we have just made.
        if row.applied or (row.tenant_id, row.user_id) == (user.tenant_id, user.user_id):
            return True
        await self._cql.execute(_LEAVE, (user.tenant_id, _bucket(user.user_id), user.user_id))
        await self._cql.execute(_DELETE, (user.tenant_id, user.user_id))
        return False

    async def add(self, user: User) -> None:
        """Make a user without a login, and the tenant if there is none, idempotently. Raises Retryable."""
        await self._cql.execute(_TENANT, (user.tenant_id, user.tenant_id, user.created_at_ms))
        roles = [role.value for role in user.roles]
        values = (user.tenant_id, user.user_id, user.email, user.plan, roles, user.suspended, user.created_at_ms)
        await self._cql.execute(_INSERT, (*values, user.created_at_ms * 1000))
        await self._cql.execute(_ENTER, (user.tenant_id, _bucket(user.user_id), user.user_id))

    async def keep_password(self, email: str, password_hash: str) -> None:
        """Replace the hash of a login that exists. Raises Retryable."""
        await self._cql.execute(_KEEP, (password_hash, email))

    async def change(self, tenant_id: str, user_id: str, change: UserChange, now_ms: int) -> None:
        """Change a user who exists. Raises Retryable."""
        roles = None if change.roles is None else [role.value for role in change.roles]
        values = (change.plan, roles, change.suspended, tenant_id, user_id)
        await self._cql.execute(_CHANGE, (now_ms * 1000, *values))

    async def page(self, tenant_id: str, after: str | None, limit: int) -> Sequence[User]:
        """Up to ``limit`` users of a tenant behind the user id ``after``, by bucket and id. Raises Retryable."""
        first = 0 if after is None else _bucket(after)
        asked = [
            (tenant_id, bucket, after if bucket == first and after else "", limit) for bucket in range(first, BUCKETS)
        ]
        entries = await execute_each(self._cql, _PAGE, asked, _IN_FLIGHT_MAX)
        user_ids = [entry.user_id for bucket in entries for entry in bucket][:limit]
        found = await execute_each(self._cql, _FIND, [(tenant_id, user_id) for user_id in user_ids], _IN_FLIGHT_MAX)
        return [_user(row) for rows in found for row in rows if row.created_at is not None]


def _bucket(user_id: str) -> int:
    return zlib.crc32(user_id.encode()) % BUCKETS


def _user(row: Any) -> User:
    return User(
        tenant_id=row.tenant_id,
        user_id=row.user_id,
        email=row.email,
        plan=row.plan,
        roles=tuple(AccountRole(role) for role in row.roles or () if role in _ROLES),
        suspended=bool(row.suspended),
        created_at_ms=unix_ms(row.created_at),
    )
