"""Accounts by the credential that proves them, remembered for a moment."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from producers.http.bounded import forget_oldest
from producers.http.refused import RequestRefused
from schemas.accounts import Account, AccountChanged, Credential
from schemas.errors import invalid_api_key
from schemas.ports import AccountDirectory


class CacheLimits(Protocol):
    """How much is remembered, and for how long."""

    @property
    def key_cache_seconds(self) -> float:
        """Age of an account from which it is asked for again."""
        ...

    @property
    def key_cache_entries_max(self) -> int:
        """Accounts that are remembered at once."""
        ...


class Accounts:
    """A bounded cache over the account directory.

    Unknown keys are remembered too, so that a flood of them does not reach the store. An answer is at most
    ``key_cache_seconds`` old; the entry that was used longest ago leaves first.
    """

    def __init__(
        self,
        directory: AccountDirectory,
        limits: CacheLimits,
        monotonic_s: Callable[[], float],
        now_ms: Callable[[], int],
    ) -> None:
        self._directory = directory
        self._limits = limits
        self._monotonic_s = monotonic_s
        self._now_ms = now_ms
        self._cached: OrderedDict[str, tuple[float, Account | None]] = OrderedDict()
        self._changes_heard = 0

    async def resolve(self, credential: Credential) -> Account:
        """The account of an active key or session. Raises RequestRefused (401) for others, Retryable from the store."""
        account = await self.find(credential)
        if account is None or account.has_expired(self._now_ms()):
            raise RequestRefused(invalid_api_key())
        return account

    async def find(self, credential: Credential, *, fresh: bool = False) -> Account | None:
        """The account of a key that may have expired, or of a session; None for others. Raises Retryable.

        ``fresh``: whatever is remembered.
        """
        expires_s, account = self._cached.get(credential.name, (float("-inf"), None))
        if fresh or self._monotonic_s() >= expires_s:
            return await self._ask(credential)
        self._cached.move_to_end(credential.name)
        return account

    def hear(self, change: AccountChanged) -> None:
        """Forget what ``change`` says does not hold any more."""
        self._changes_heard += 1
        for name, (_, account) in tuple(self._cached.items()):
            # Of what did not pass nobody knows whose it was: it may pass again.
            if (not change.access_lost) if account is None else change.concerns(account):
                del self._cached[name]

    async def _ask(self, credential: Credential) -> Account | None:
        while True:
            asked_s, heard = self._monotonic_s(), self._changes_heard
            account = (await self._directory.accounts((credential,))).get(credential.name)
            # What was read before a change must not be believed after it.
            if heard == self._changes_heard:
                break
        self._cached[credential.name] = (asked_s + self._limits.key_cache_seconds, account)
        self._cached.move_to_end(credential.name)
        forget_oldest(self._cached, self._limits.key_cache_entries_max)
        return account
