"""How far a consumer may commit: the highest position below which every record is finished. Pure."""

from collections import deque
from collections.abc import Iterable, Mapping

from schemas.ports import TopicPartition


class PartitionProgress:
    """The records of one partition that were given out, in growing offsets, and finished in any order."""

    def __init__(self, first: int) -> None:
        self._position = first
        self._next = first
        self._given: deque[int] = deque()
        self._finished: set[int] = set()

    @property
    def position(self) -> int:
        """The offset to commit: all records before it are finished, offsets without a record included."""
        return self._position

    @property
    def unfinished(self) -> int:
        """How many records are given out and hold the position, or wait for one that does."""
        return len(self._given)

    def expects(self, offset: int) -> bool:
        """Whether ``offset`` lies behind everything that was given out before."""
        return offset >= self._next

    def give(self, offset: int) -> None:
        """Note that the record at ``offset`` is being worked on. Raises ValueError unless it is expected."""
        if not self.expects(offset):
            raise ValueError(f"offset {offset} was passed already, the next is {self._next}")
        self._given.append(offset)
        self._next = offset + 1

    def finish(self, offset: int) -> None:
        """Note that the record at ``offset`` is finished for good. What was never given is ignored."""
        self._finished.add(offset)
        while self._given and self._given[0] in self._finished:
            self._finished.discard(self._given.popleft())
        if not self._given:
            self._finished.clear()
        self._position = self._given[0] if self._given else self._next


class Watermarks:
    """The progress of every partition of a member, and what of it is not committed yet."""

    def __init__(self) -> None:
        self._progress: dict[TopicPartition, PartitionProgress] = {}
        self._committed: dict[TopicPartition, int] = {}

    def give(self, partition: TopicPartition, offset: int) -> None:
        """Note a record that is being worked on.

        An offset that was passed before means that the log was reset below the group: tracking starts again
        there, because skipping the record could lose it and doing it twice is allowed.
        """
        progress = self._progress.get(partition)
        if progress is None or not progress.expects(offset):
            progress = self._progress[partition] = PartitionProgress(offset)
            # What is committed for the partition is where the member began to read.
            self._committed[partition] = offset
        progress.give(offset)

    def finish(self, partition: TopicPartition, offset: int) -> None:
        """Note a finished record; of a partition that was forgotten it means nothing."""
        progress = self._progress.get(partition)
        if progress is not None:
            progress.finish(offset)

    def unfinished(self, partition: TopicPartition) -> int:
        """How many records of ``partition`` were given out from its oldest unfinished one on."""
        progress = self._progress.get(partition)
        return 0 if progress is None else progress.unfinished

    def due(self) -> Mapping[TopicPartition, int]:
        """The positions that moved since they were last committed."""
        return {
            partition: progress.position
            for partition, progress in self._progress.items()
            if progress.position != self._committed[partition]
        }

    def committed(self, positions: Mapping[TopicPartition, int]) -> None:
        """Note what a commit achieved."""
        for partition, position in positions.items():
            if partition in self._progress:
                self._committed[partition] = position

    def forget(self, partitions: Iterable[TopicPartition]) -> None:
        """Drop partitions that somebody else reads now."""
        for partition in partitions:
            self._progress.pop(partition, None)
            self._committed.pop(partition, None)
