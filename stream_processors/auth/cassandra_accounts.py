"""Accounts in Cassandra: the tables ``api_keys``, ``sessions`` and ``users``."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from schemas.accounts import Account, AccountRole, ApiKeyCredential, Credential, KeyLimits, SessionCredential
from schemas.plans import DEFAULT_PLAN
from schemas.ports import Cql
from schemas.timestamps import unix_ms
from stream_processors.bounded_gather import execute_each

SELECT_KEY: Final = (
    "SELECT key_id, tenant_id, user_id, plan, revoked, expires_at, models, requests_per_minute, tokens_per_minute"
    " FROM api_keys WHERE key_hash = ?"
)
SELECT_SESSION: Final = "SELECT tenant_id, user_id, ended FROM sessions WHERE session_id = ?"
SELECT_USER: Final = "SELECT plan, roles, suspended FROM users WHERE tenant_id = ? AND user_id = ?"

_ROLES: Final = frozenset(AccountRole)


class CassandraAccounts:
    """The ``AccountDirectory`` over Cassandra: one read for each credential, then one for each user."""

    def __init__(self, cql: Cql, statements_in_flight_max: int) -> None:
        self._cql = cql
        self._in_flight_max = statements_in_flight_max

    async def accounts(self, credentials: Sequence[Credential]) -> Mapping[str, Account]:
        """The accounts of what exists, is not revoked, and whose user is not suspended. Raises Retryable."""
        keys, sessions = await self._of_keys(credentials), await self._of_sessions(credentials)
        found = {**keys, **sessions}
        owners = list({(account.tenant_id, account.user_id) for account in found.values()})
        users = dict(zip(owners, await self._rows(SELECT_USER, owners), strict=True))
        resolved: dict[str, Account | None] = {}
        for name, account in found.items():
            row = users[account.tenant_id, account.user_id]
            # A key may be of a user who has no row; a session is always of one who has.
            if row is not None:
                resolved[name] = _with_user(account, row)
            elif name in keys:
                resolved[name] = account
        return {name: account for name, account in resolved.items() if account is not None}

    async def _of_keys(self, credentials: Sequence[Credential]) -> Mapping[str, Account]:
        hashes = list({one.key_hash for one in credentials if isinstance(one, ApiKeyCredential)})
        rows = await self._rows(SELECT_KEY, [(key_hash,) for key_hash in hashes])
        return {key_hash: _of_key(row) for key_hash, row in zip(hashes, rows, strict=True) if _is_usable(row)}

    async def _of_sessions(self, credentials: Sequence[Credential]) -> Mapping[str, Account]:
        sessions = {one.session_id: one for one in credentials if isinstance(one, SessionCredential)}
        rows = await self._rows(SELECT_SESSION, [(session_id,) for session_id in sessions])
        return {
            session_id: Account(
                tenant_id=claimed.tenant_id, user_id=claimed.user_id, key_id=session_id, plan=DEFAULT_PLAN
            )
            for (session_id, claimed), row in zip(sessions.items(), rows, strict=True)
            if row is not None
            and row.ended is False
            and (row.tenant_id, row.user_id) == (claimed.tenant_id, claimed.user_id)
        }

    async def _rows(self, query: str, values: Sequence[Sequence[object]]) -> Sequence[Any]:
        answers = await execute_each(self._cql, query, values, self._in_flight_max)
        return [rows[0] if rows else None for rows in answers]


def _is_usable(row: Any) -> bool:
    # A revocation is an upsert: of a key that never was, it leaves a row without an account.
    return row is not None and not row.revoked and None not in (row.tenant_id, row.user_id, row.key_id, row.plan)


def _of_key(row: Any) -> Account:
    limits = KeyLimits(requests_per_minute=row.requests_per_minute, tokens_per_minute=row.tokens_per_minute)
    return Account(
        tenant_id=row.tenant_id,
        user_id=row.user_id,
        key_id=row.key_id,
        plan=row.plan,
        models=None if row.models is None else tuple(row.models),
        limits=None if limits == KeyLimits() else limits,
        expires_at_ms=None if row.expires_at is None else unix_ms(row.expires_at),
    )


def _with_user(account: Account, row: Any) -> Account | None:
    """``account`` as its user's row has it; None for a user who is suspended."""
    if row.suspended:
        return None
    roles = tuple(AccountRole(role) for role in row.roles or () if role in _ROLES)
    return account.model_copy(update={"plan": row.plan or account.plan, "roles": roles})
