"""Directories that remember for a while what another directory said.

Only what exists is remembered: a key or a conversation that was just created is seen at once.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final

from schemas.accounts import Account, AccountChanged, Credential
from schemas.errors import Retryable
from schemas.ports import AccountDirectory, ConversationDirectory, Owner
from stream_processors.auth.core import AuthSettings
from stream_processors.auth.ttl_cache import TtlCache

# What is used in the second half of its time is read again before anybody has to wait for it.
_AGEING: Final = 0.5


class CachedAccounts:
    """An ``AccountDirectory`` in front of another; an account is at most ``key_cache_s`` old.

    For when the other does not answer, what it said in the last ``key_stale_s_max`` seconds is remembered as well:
    known users go on, and a key that was revoked meanwhile passes that long, unless its change was heard.
    """

    def __init__(self, directory: AccountDirectory, settings: AuthSettings, monotonic_s: Callable[[], float]) -> None:
        self._directory = directory
        self._cache = TtlCache[str, Account](settings.key_cache_s, settings.key_cache_entries_max)
        self._stale = TtlCache[str, Account](settings.key_stale_s_max, settings.key_cache_entries_max)
        self._ageing_s = settings.key_cache_s * _AGEING
        self._ageing: dict[str, Credential] = {}
        self._any_ageing = asyncio.Event()
        self._monotonic_s = monotonic_s
        self._changes_heard = 0

    async def accounts(self, credentials: Sequence[Credential]) -> Mapping[str, Account]:
        """As ``AccountDirectory.accounts``."""
        by_name = {credential.name: credential for credential in credentials}
        now_s = self._monotonic_s()
        found = self._cache.get(by_name, now_s)
        young = self._cache.get(found, now_s + self._ageing_s)
        if len(young) < len(found):
            self._ageing.update({name: by_name[name] for name in found if name not in young})
            self._any_ageing.set()
        missing = [credential for name, credential in by_name.items() if name not in found]
        if missing:
            found.update(await self._read(missing))
        return found

    async def keep_fresh(self) -> None:
        """Read accounts in use again before they are too old, until cancelled: then no turn waits for the store."""
        while True:
            await self._any_ageing.wait()
            # Whoever needs one that could not be read asks the store, and says that it is away.
            with suppress(Retryable):
                await self._read(list(self._ageing.values()))
            self._ageing.clear()
            self._any_ageing.clear()

    async def _read(self, credentials: Sequence[Credential]) -> Mapping[str, Account]:
        # The age of an answer counts from before the question.
        asked_s, heard = self._monotonic_s(), self._changes_heard
        answers = await self._directory.accounts(credentials)
        # What was read before a change must not be kept after it.
        if heard == self._changes_heard:
            self._cache.put(answers, asked_s)
            self._stale.put(answers, asked_s)
        gone = [credential.name for credential in credentials if credential.name not in answers]
        self._cache.drop(gone)
        self._stale.drop(gone)
        return answers

    def last_known(self, credentials: Sequence[Credential]) -> Mapping[str, Account]:
        """The accounts that ``accounts`` gave in the last ``key_stale_s_max`` seconds."""
        return self._stale.get((credential.name for credential in credentials), self._monotonic_s())

    def hear(self, change: AccountChanged) -> None:
        """Forget what ``change`` says does not hold any more."""
        self._changes_heard += 1
        for cache in (self._cache, self._stale):
            cache.drop([name for name, account in cache.items() if change.concerns(account)])


class CachedConversations:
    """A ``ConversationDirectory`` in front of another; an owner is at most ``owner_cache_s`` old."""

    def __init__(
        self, directory: ConversationDirectory, settings: AuthSettings, monotonic_s: Callable[[], float]
    ) -> None:
        self._directory = directory
        self._cache = TtlCache[str, Owner](settings.owner_cache_s, settings.owner_cache_entries_max)
        self._monotonic_s = monotonic_s

    async def owners(self, conversation_ids: Sequence[str]) -> Mapping[str, Owner]:
        """As ``ConversationDirectory.owners``."""
        found = self._cache.get(conversation_ids, self._monotonic_s())
        missing = [conversation_id for conversation_id in conversation_ids if conversation_id not in found]
        if missing:
            asked_s = self._monotonic_s()
            answers = await self._directory.owners(missing)
            self._cache.put(answers, asked_s)
            found.update(answers)
        return found

    async def claim(self, owners: Mapping[str, Owner], created_at_ms: int) -> None:
        """As ``ConversationDirectory.claim``; the owners are remembered once they are written."""
        asked_s = self._monotonic_s()
        await self._directory.claim(owners, created_at_ms)
        self._cache.put(owners, asked_s)
