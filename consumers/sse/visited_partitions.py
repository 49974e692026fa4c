"""Partitions that an edge reads for a while, beside its home: where turns of other edges are picked up."""

import asyncio
from collections.abc import Iterable

import structlog

from consumers.sse.core import SseSettings, too_many_visits
from schemas.ports import LogTail, TopicPartition

_LOG = structlog.get_logger(__name__)


class VisitedPartitions:
    """Counts readers per partition. A partition is followed from its first reader on and a while after its last."""

    def __init__(self, tail: LogTail, home: Iterable[TopicPartition], settings: SseSettings) -> None:
        self._tail = tail
        self._home = frozenset(home)
        self._settings = settings
        self._readers: dict[TopicPartition, int] = {}
        self._left_s: dict[TopicPartition, float] = {}
        # One change of what the tail follows at a time.
        self._changing = asyncio.Lock()

    async def enter(self, partition: TopicPartition) -> None:
        """Follow ``partition`` for one more reader. Raises Retryable, also beyond ``visited_partitions_max``."""
        if partition in self._home:
            return
        async with self._changing:
            if partition not in self._readers:
                if len(self._readers) >= self._settings.visited_partitions_max and not self._drop_longest_left():
                    raise too_many_visits()
                await self._tail.follow(partition)
                _LOG.debug("partition_visited", partition=partition.partition)
            self._readers[partition] = self._readers.get(partition, 0) + 1
            self._left_s.pop(partition, None)

    def leave(self, partition: TopicPartition, now_s: float) -> None:
        """One reader less; ``now_s`` is the event loop's time."""
        if partition in self._home:
            return
        self._readers[partition] -= 1
        if self._readers[partition] == 0:
            self._left_s[partition] = now_s

    def expire(self, now_s: float) -> None:
        """Stop following what nobody has read for ``visit_linger_seconds``; called by a ticker."""
        if self._changing.locked():
            return
        limit_s = now_s - self._settings.visit_linger_seconds
        for partition in [partition for partition, left_s in self._left_s.items() if left_s <= limit_s]:
            self._drop(partition)

    def _drop_longest_left(self) -> bool:
        if not self._left_s:
            return False
        self._drop(min(self._left_s, key=self._left_s.__getitem__))
        return True

    def _drop(self, partition: TopicPartition) -> None:
        del self._left_s[partition]
        del self._readers[partition]
        self._tail.unfollow(partition)
