"""Under which credentials responses are being written, and which of them have lost their access meanwhile."""

import asyncio
from collections.abc import Callable
from typing import Final, Self

from producers.http.accounts import Accounts
from producers.http.key_uses import KeyUses
from schemas.accounts import Account, AccountChanged, Credential, SessionCredential
from schemas.errors import Retryable

TICK_SECONDS: Final = 1.0
EXPIRED: Final = "expired"
SUSPENDED: Final = "suspended"


class Watch:
    """One response, watched over while it is entered. ``lost`` says why its credential passes no more, once so."""

    __slots__ = ("_open", "account", "credential", "doubtful", "lost", "on_lost")

    def __init__(self, credential: Credential, open_watches: set["Watch"]) -> None:
        self.credential: Final = credential
        self._open = open_watches
        self.account: Account | None = None
        self.lost: str | None = None
        self.on_lost: Callable[[], object] | None = None
        self.doubtful = False

    def __enter__(self) -> Self:
        self._open.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._open.discard(self)

    def lose(self, reason: str) -> None:
        """End the response."""
        if self.lost is None:
            self.lost = reason
            if self.on_lost is not None:
                self.on_lost()


class OpenAccess:
    """All responses of this edge. Which user a key is of is found out behind the back of the response: none waits."""

    def __init__(self, accounts: Accounts, uses: KeyUses, now_ms: Callable[[], int]) -> None:
        self._accounts = accounts
        self._uses = uses
        self._now_ms = now_ms
        self._watches: set[Watch] = set()

    def __len__(self) -> int:
        return len(self._watches)

    def watch(self, credential: Credential) -> Watch:
        """Watch over the response that is written inside."""
        self._uses.note(credential, self._now_ms())
        return Watch(credential, self._watches)

    def hear(self, change: AccountChanged) -> None:
        """Forget what is cached, and end what ``change`` takes the access from."""
        self._accounts.hear(change)
        for watch in tuple(self._watches):
            if _concerns(change, watch):
                if change.access_lost:
                    watch.lose(change.reason)
                watch.account = None
            elif change.subject == "user" and watch.account is None:
                # Whose key it is, nobody has asked yet.
                watch.doubtful = change.access_lost

    async def run(self) -> None:
        """Find out whose the credentials are, and end what expires, until cancelled."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            await self.look_after()

    async def look_after(self) -> None:
        """One round of ``run``."""
        now_ms = self._now_ms()
        for watch in tuple(self._watches):
            if watch.account is not None and watch.account.has_expired(now_ms):
                watch.lose(EXPIRED)
        try:
            for watch in tuple(self._watches):
                if watch.account is None or watch.doubtful:
                    await self._identify(watch)
        except Retryable:
            # Asked again in the next round. Nobody loses access because a store does not answer.
            return
        await self._uses.flush(self._accounts)

    async def _identify(self, watch: Watch) -> None:
        watch.account = await self._accounts.find(watch.credential, fresh=watch.doubtful)
        if watch.account is None and watch.doubtful:
            watch.lose(SUSPENDED)
        watch.doubtful = False


def _concerns(change: AccountChanged, watch: Watch) -> bool:
    credential, account = watch.credential, watch.account
    if change.subject == "api_key" and change.key_hash is not None:
        return credential.name == change.key_hash
    if isinstance(credential, SessionCredential):
        named = change.subject == "user" or credential.session_id == change.subject_id
        return named and (credential.tenant_id, credential.user_id) == (change.tenant_id, change.user_id)
    return account is not None and change.concerns(account)
