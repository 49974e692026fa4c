"""When keys were used last, written behind the back of the requests, at most once a minute for each key."""

from collections import OrderedDict
from typing import Final, Protocol

import structlog

from producers.http.accounts import Accounts
from producers.http.bounded import forget_oldest
from schemas.accounts import ApiKeyCredential, Credential
from schemas.errors import Retryable

_LOG: Final = structlog.get_logger(__name__)
_MINUTE_MS: Final = 60_000


class NotesUses(Protocol):
    """Keeps when keys were used last."""

    async def note_use(self, key_hash: str, used_at_ms: int) -> None:
        """Note when a key was used last; the newest note wins. Raises Retryable."""
        ...


class KeyUses:
    """Gathers the uses of keys and writes those of keys that pass. Of too many keys the first ones are forgotten."""

    def __init__(self, store: NotesUses, keys_max: int, per_flush_max: int) -> None:
        self._store = store
        self._keys_max = keys_max
        self._per_flush_max = per_flush_max
        self._used: OrderedDict[ApiKeyCredential, int] = OrderedDict()
        self._noted: OrderedDict[ApiKeyCredential, int] = OrderedDict()

    def note(self, credential: Credential, now_ms: int) -> None:
        """A request came with ``credential`` at ``now_ms``."""
        if isinstance(credential, ApiKeyCredential) and now_ms - self._noted.get(credential, -_MINUTE_MS) >= _MINUTE_MS:
            self._used[credential] = now_ms
            forget_oldest(self._used, self._keys_max)

    async def flush(self, accounts: Accounts) -> None:
        """Write what was noted, up to ``per_flush_max`` keys; the others at the next call, or at a store's return."""
        for _ in range(min(len(self._used), self._per_flush_max)):
            credential, used_at_ms = self._used.popitem(last=False)
            self._noted[credential] = used_at_ms
            forget_oldest(self._noted, self._keys_max)
            try:
                if await accounts.find(credential) is not None:
                    await self._store.note_use(credential.key_hash, used_at_ms)
            except Retryable:
                _LOG.warning("key_uses_not_written", keys=len(self._used))
                self._used.setdefault(credential, used_at_ms)
                del self._noted[credential]
                return
