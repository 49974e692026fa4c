"""Directories that remember for a while what another directory said.

Only what exists is remembered: a key or a conversation that was just created is seen at once.
"""

from collections.abc import Callable, Mapping, Sequence

from schemas.accounts import Account
from schemas.ports import ConversationDirectory, KeyDirectory, Owner
from stream_processors.auth.core import AuthSettings
from stream_processors.auth.ttl_cache import TtlCache


class CachedKeys:
    """A ``KeyDirectory`` in front of another; an account is at most ``key_cache_s`` old.

    For when the other does not answer, what it said in the last ``key_stale_s_max`` seconds is remembered as well:
    known users go on, and a key that was revoked meanwhile passes that long.
    """

    def __init__(self, directory: KeyDirectory, settings: AuthSettings, monotonic_s: Callable[[], float]) -> None:
        self._directory = directory
        self._cache = TtlCache[str, Account](settings.key_cache_s, settings.key_cache_entries_max)
        self._stale = TtlCache[str, Account](settings.key_stale_s_max, settings.key_cache_entries_max)
        self._monotonic_s = monotonic_s

    async def accounts(self, key_hashes: Sequence[str]) -> Mapping[str, Account]:
        """As ``KeyDirectory.accounts``."""
        found = self._cache.get(key_hashes, self._monotonic_s())
        missing = [key_hash for key_hash in key_hashes if key_hash not in found]
        if missing:
            # The age of an answer counts from before the question.
            asked_s = self._monotonic_s()
            answers = await self._directory.accounts(missing)
            self._cache.put(answers, asked_s)
            self._stale.put(answers, asked_s)
            self._stale.drop(key_hash for key_hash in missing if key_hash not in answers)
            found.update(answers)
        return found

    def last_known(self, key_hashes: Sequence[str]) -> Mapping[str, Account]:
        """The accounts that ``accounts`` gave in the last ``key_stale_s_max`` seconds."""
        return self._stale.get(key_hashes, self._monotonic_s())


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
