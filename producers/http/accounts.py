"""Accounts by key hash, remembered for a moment."""

from collections import OrderedDict
from collections.abc import Callable

from producers.http.refused import RequestRefused
from producers.ingest.core import IngestSettings
from schemas.accounts import Account, ApiKeyCredential, Credential
from schemas.errors import invalid_api_key
from schemas.ports import KeyDirectory


class Accounts:
    """A bounded cache over the key directory.

    Unknown keys are remembered too, so that a flood of them does not reach the store. An answer is at most
    ``key_cache_seconds`` old; the entry that was used longest ago leaves first.
    """

    def __init__(self, keys: KeyDirectory, settings: IngestSettings, monotonic_s: Callable[[], float]) -> None:
        self._keys = keys
        self._settings = settings
        self._monotonic_s = monotonic_s
        self._cached: OrderedDict[str, tuple[float, Account | None]] = OrderedDict()

    async def resolve(self, credential: Credential) -> Account:
        """The account of an active key. Raises RequestRefused (401) for any other, Retryable from the store."""
        account = await self._find(credential.key_hash) if isinstance(credential, ApiKeyCredential) else None
        if account is None:
            raise RequestRefused(invalid_api_key())
        return account

    async def _find(self, key_hash: str) -> Account | None:
        expires_s, account = self._cached.get(key_hash, (float("-inf"), None))
        if self._monotonic_s() < expires_s:
            self._cached.move_to_end(key_hash)
            return account
        found = (await self._keys.accounts((key_hash,))).get(key_hash)
        self._cached[key_hash] = (self._monotonic_s() + self._settings.key_cache_seconds, found)
        self._cached.move_to_end(key_hash)
        if len(self._cached) > self._settings.key_cache_entries_max:
            self._cached.popitem(last=False)
        return found
