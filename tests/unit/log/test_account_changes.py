"""Changes of accounts on their way from the log to whoever caches."""

import asyncio
from collections.abc import Sequence

import pytest

from producers.accounts.change_log import AccountChangeLog
from schemas.accounts import AccountChanged
from schemas.errors import Retryable
from schemas.ports import LogTail, Record, TopicPartition
from schemas.topics import ACCOUNT_CHANGES
from tests.support.memory_log import MemoryLog
from turnstream.log import account_changes
from turnstream.log.account_changes import CHANGES_FOLLOWED, AccountChangeListener

CHANGE = AccountChanged(
    subject="user",
    subject_id="ann",
    tenant_id="acme",
    user_id="ann",
    access_lost=True,
    reason="suspended",
    changed_at_ms=1,
)


class FailingFirst:
    """A tail whose first poll fails."""

    def __init__(self, tail: LogTail) -> None:
        self._tail = tail
        self.failed = False

    async def poll(self, records_max: int, wait_s: float) -> Sequence[Record]:
        if not self.failed:
            self.failed = True
            raise Retryable("told to fail")
        return await self._tail.poll(records_max, wait_s)

    def position(self, partition: TopicPartition) -> int:
        return self._tail.position(partition)

    async def follow(self, partition: TopicPartition) -> None:
        await self._tail.follow(partition)

    def unfollow(self, partition: TopicPartition) -> None:
        self._tail.unfollow(partition)


async def test_every_change_is_heard_by_all_after_an_outage_and_an_unreadable_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(account_changes, "RETRY_S", 0)
    log = MemoryLog(1)
    tail = FailingFirst(log.tail(CHANGES_FOLLOWED))
    first: list[AccountChanged] = []
    second: list[AccountChanged] = []
    listening = asyncio.ensure_future(AccountChangeListener(tail, first.append, second.append).run())
    log.put(ACCOUNT_CHANGES.name, b"ann", b"not JSON", partition=0)
    await AccountChangeLog(log.producer(), bytes).publish(CHANGE)
    await log.until(lambda: bool(second))
    listening.cancel()
    assert first == second == [CHANGE]
    assert tail.failed
