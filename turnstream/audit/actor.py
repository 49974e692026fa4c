"""Whom the audit names: the user of the operator's key, else the login of this machine."""

import getpass
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from producers.http.api_keys import key_hash, parse_api_key
from schemas.accounts import Account, AccountRole, ApiKeyCredential
from schemas.ports import AccountDirectory

OPERATING: Final = frozenset({AccountRole.OPERATOR, AccountRole.ADMIN})


class NotAllowedError(Exception):
    """The operator's key does not allow it; the message says why, without the key."""


@dataclass(frozen=True, slots=True)
class Actor:
    """``name`` is ``<tenant>/<user>``, or ``os:<login>`` of somebody without a key, who has no roles."""

    name: str
    roles: frozenset[AccountRole] = frozenset()

    def may_reveal(self, *, operators_too: bool) -> bool:
        """Whether they may see what users and models wrote."""
        return AccountRole.ADMIN in self.roles or (operators_too and AccountRole.OPERATOR in self.roles)


def login_actor(login: Callable[[], str] = getpass.getuser) -> Actor:
    """Whoever is logged in on this machine."""
    try:
        return Actor(f"os:{login()}")
    except (OSError, KeyError):
        # A container may run under a number that has no name.
        return Actor("os:unknown")


async def key_actor(key: str, pepper: bytes, accounts: AccountDirectory, now_ms: int) -> Actor:
    """The user of ``key``. Raises NotAllowedError, Retryable."""
    parsed = parse_api_key(key.strip())
    if parsed is None:
        raise NotAllowedError("TURNSTREAM_OPERATIONS__OPERATOR_KEY is not an API key")
    hashed = key_hash(parsed, pepper)
    account = (await accounts.accounts([ApiKeyCredential(key_hash=hashed)])).get(hashed)
    if account is None or account.has_expired(now_ms):
        raise NotAllowedError("the operator key is unknown, revoked or expired, or its user is suspended")
    return _operator(account)


def _operator(account: Account) -> Actor:
    if OPERATING.isdisjoint(account.roles):
        raise NotAllowedError(
            "the user of the operator key is neither operator nor admin (`turnstream users set-role`)"
        )
    return Actor(f"{account.tenant_id}/{account.user_id}", frozenset(account.roles))
