"""Passwords: argon2id, off the event loop, a bounded number at a time."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError

from producers.accounts.core import AccountsSettings
from producers.http.refused import RequestRefused
from schemas.errors import unavailable

_T = TypeVar("_T")


class Passwords:
    """Hashes and checks passwords. A check costs the same whether there is a hash to check against or not."""

    def __init__(self, settings: AccountsSettings) -> None:
        self._hasher = PasswordHasher(
            time_cost=settings.password_passes,
            memory_cost=settings.password_memory_kib,
            parallelism=settings.password_lanes,
            type=Type.ID,
        )
        self._slots = asyncio.Semaphore(settings.password_checks_in_flight_max)
        self._waiting_max = settings.password_checks_waiting_max
        self._waiting = 0
        self._nobodys: str | None = None

    async def hash(self, password: str) -> str:
        """What is kept of ``password``, with its salt. Raises RequestRefused (503) when too many wait."""
        return await self._run(lambda: self._hasher.hash(password))

    async def check(self, password: str, kept: str | None) -> bool:
        """Whether ``kept`` is of ``password``. None, of a user who does not exist, takes as long, and is not.

        Raises RequestRefused (503) when too many wait.
        """
        return await self._run(lambda: self._matches(password, kept))

    def is_outdated(self, kept: str) -> bool:
        """Whether ``kept`` was made with other parameters than today's."""
        return self._hasher.check_needs_rehash(kept)

    def _matches(self, password: str, kept: str | None) -> bool:
        # Made at the first check of all, whoever it is of, and not at the start: most processes never see a login.
        nobodys = self._nobodys = self._nobodys or self._hasher.hash("nobody's password")
        try:
            self._hasher.verify(kept or nobodys, password)
        except (VerificationError, InvalidHashError):
            return False
        return kept is not None

    async def _run(self, work: Callable[[], _T]) -> _T:
        if self._waiting > self._waiting_max:
            raise RequestRefused(unavailable("Too many logins at once. Retry shortly.", retry_after_s=2))
        self._waiting += 1
        try:
            async with self._slots:
                return await asyncio.to_thread(work)
        finally:
            self._waiting -= 1
