"""Hears the changes of accounts and passes them to whoever caches or streams under an account."""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from schemas import serde
from schemas.accounts import AccountChanged
from schemas.errors import Malformed, Retryable
from schemas.ports import LogTail, Record, TopicPartition
from schemas.topics import ACCOUNT_CHANGES

CHANGES_PER_POLL_MAX: Final = 500
POLL_WAIT_S_MAX: Final = 1.0
RETRY_S: Final = 1.0

_log: Final = structlog.get_logger(__name__)

Hear = Callable[[AccountChanged], None]


class AccountChangeListener:
    """Follows the changes through a ``LogTail`` on ``CHANGES_FOLLOWED`` and calls every one of ``hear_by``.

    Whatever is cached must have been read after the tail stood at its place: open the tail first.
    """

    def __init__(self, tail: LogTail, *heard_by: Hear) -> None:
        self._tail = tail
        self._heard_by = heard_by

    async def run(self) -> None:
        """Listen until cancelled. While the log cannot be read, changes are late; that is no reason to stop."""
        while True:
            try:
                records = await self._tail.poll(CHANGES_PER_POLL_MAX, POLL_WAIT_S_MAX)
            except Retryable:
                _log.warning("account_changes_unreadable")
                await asyncio.sleep(RETRY_S)
                continue
            for record in records:
                self._pass_on(record)

    def _pass_on(self, record: Record) -> None:
        try:
            change: AccountChanged = serde.decode(ACCOUNT_CHANGES, record.value)
        except Malformed:
            _log.warning("account_change_unreadable", partition=record.partition, offset=record.offset)
            return
        for hear in self._heard_by:
            hear(change)


# One partition: there are few changes, and every process reads them all.
CHANGES_FOLLOWED: Final = (TopicPartition(ACCOUNT_CHANGES.name, 0),)
