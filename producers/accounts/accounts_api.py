"""The accounts API of one edge, put together."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from fastapi import APIRouter

from producers.accounts.access_tokens import AccessTokens
from producers.accounts.core import SESSION_PREFIX, AccountsSettings
from producers.accounts.own_keys import OwnKeys
from producers.accounts.ports import AccountPorts
from producers.accounts.refresh_tokens import RefreshTokens
from producers.accounts.routes import admin_routes, key_routes, session_routes
from producers.accounts.signing_keys import SigningKeys
from producers.accounts.stage import Logins
from producers.accounts.tenant_users import TenantUsers
from producers.http.accounts import Accounts
from producers.http.callers import Callers
from producers.http.key_uses import KeyUses
from producers.http.open_access import OpenAccess
from producers.ingest.core import IngestSettings

_USES_PER_FLUSH_MAX: Final = 200


@dataclass(frozen=True, slots=True, repr=False)
class AccountSecrets:
    """``pepper`` keys the hashes of API keys and refresh tokens."""

    pepper: bytes
    signing_keys: SigningKeys


class AccountsApi:
    """Who calls, under what responses are written, and the routes of accounts.

    ``open_access`` must run, and hear the changes of accounts, while the edge serves.
    """

    def __init__(
        self,
        ports: AccountPorts,
        settings: AccountsSettings,
        ingest: IngestSettings,
        secrets: AccountSecrets,
        *,
        plans: Collection[str],
    ) -> None:
        tokens = AccessTokens(secrets.signing_keys, settings, ports.now_ms)
        accounts = Accounts(ports.directory, ingest, ports.monotonic_s, ports.now_ms)
        logins = Logins(ports, settings, tokens, RefreshTokens(secrets.pepper, SESSION_PREFIX))
        keys = OwnKeys(
            ports, settings.keys_per_user_max, pepper=secrets.pepper, models=[card.id for card in ingest.models]
        )
        self.callers: Final = Callers(accounts, secrets.pepper, tokens.check)
        uses = KeyUses(ports.keys, ingest.key_cache_entries_max, _USES_PER_FLUSH_MAX)
        self.open_access: Final = OpenAccess(accounts, uses, ports.now_ms)
        self.routers: Final[tuple[APIRouter, ...]] = (
            session_routes(self.callers, logins, tokens),
            key_routes(self.callers, keys),
            admin_routes(self.callers, TenantUsers(ports, plans)),
        )
