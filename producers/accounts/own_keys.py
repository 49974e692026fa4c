"""The API keys of one user: made, shown, revoked."""

from collections.abc import Collection
from typing import Any, Final

from producers.accounts import core
from producers.accounts.bodies import KeyWanted, key_body, list_body
from producers.accounts.ports import AccountPorts, ApiKeyRow
from producers.http.api_keys import KEY_ENTROPY_BYTES, key_hash, make_api_key
from producers.http.refused import RequestRefused
from schemas.accounts import Account, AccountChanged
from schemas.errors import invalid_request

KEY_REVOKED: Final = "revoked"


class OwnKeys:
    """Keys of the asking user. Every method raises RequestRefused for the client's part and Retryable for ours."""

    def __init__(self, ports: AccountPorts, keys_max: int, *, pepper: bytes, models: Collection[str]) -> None:
        self._ports = ports
        self._keys_max = keys_max
        self._pepper = pepper
        self._models = frozenset(models)

    async def create(self, account: Account, wanted: KeyWanted) -> dict[str, Any]:
        """A new key with its text, which is never shown again."""
        refusal = core.require_unconfined(account)
        if refusal is not None:
            raise RequestRefused(refusal)
        now_ms = self._ports.now_ms()
        self._check(wanted, now_ms)
        if len(await self._ports.keys.of_user(account.tenant_id, account.user_id, self._keys_max)) >= self._keys_max:
            raise RequestRefused(core.too_many_keys(self._keys_max))
        key = make_api_key(self._ports.entropy(KEY_ENTROPY_BYTES))
        row = ApiKeyRow(
            key_hash=key_hash(key, self._pepper),
            key_id=key.key_id,
            tenant_id=account.tenant_id,
            user_id=account.user_id,
            plan=account.plan,
            label=wanted.label,
            created_at_ms=now_ms,
            expires_at_ms=None if wanted.expires_at is None else wanted.expires_at * 1000,
            models=wanted.models,
            requests_per_minute=wanted.requests_per_minute,
            tokens_per_minute=wanted.tokens_per_minute,
        )
        await self._ports.keys.create(row)
        return key_body(row, key.text)

    async def list(self, account: Account) -> dict[str, Any]:
        """The keys that are not revoked."""
        rows = await self._ports.keys.of_user(account.tenant_id, account.user_id, self._keys_max)
        return list_body([key_body(row) for row in rows], has_more=False)

    async def show(self, account: Account, key_id: str) -> dict[str, Any]:
        """One key."""
        return key_body(await self._find(account, key_id))

    async def revoke(self, account: Account, key_id: str) -> dict[str, Any]:
        """Let a key pass no more, and end what streams under it. Repeated after a failure it finishes the work."""
        row = await self._find(account, key_id)
        now_ms = self._ports.now_ms()
        await self._ports.keys.revoke(row, now_ms)
        await self._ports.changes.publish(key_lost(row, KEY_REVOKED, now_ms))
        await self._ports.keys.forget(row)
        return {"id": key_id, "object": "api_key.deleted", "deleted": True}

    async def _find(self, account: Account, key_id: str) -> ApiKeyRow:
        row = await self._ports.keys.find(account.tenant_id, account.user_id, key_id)
        if row is None:
            raise RequestRefused(core.key_not_found())
        return row

    def _check(self, wanted: KeyWanted, now_ms: int) -> None:
        if wanted.expires_at is not None and wanted.expires_at * 1000 <= now_ms:
            raise RequestRefused(invalid_request("'expires_at' has passed.", "expires_at", "invalid_value"))
        if not self._models.issuperset(wanted.models or ()):
            raise RequestRefused(invalid_request("'models' names a model that is not here.", "models", "invalid_value"))


def key_lost(row: ApiKeyRow, reason: str, now_ms: int) -> AccountChanged:
    """What is told of a key that passes no more."""
    return AccountChanged(
        subject="api_key",
        subject_id=row.key_id,
        tenant_id=row.tenant_id,
        user_id=row.user_id,
        key_hash=row.key_hash,
        access_lost=True,
        reason=reason,
        changed_at_ms=now_ms,
    )
