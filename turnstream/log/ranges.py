"""Ranges of one partition that callers wait for, and what to fetch next for them. Pure."""

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol


class Entry(Protocol):
    """A record as far as it matters here."""

    @property
    def offset(self) -> int:
        """Where it lies in its partition."""
        ...

    @property
    def key(self) -> bytes | None:
        """Whom it is about."""
        ...

    @property
    def value(self) -> bytes | None:
        """What it says."""
        ...


@dataclass(frozen=True, slots=True)
class Span:
    """The offsets ``start <= offset < stop``."""

    start: int
    stop: int


@dataclass(slots=True, eq=False)
class RangeRead:
    """A caller's range: what it has got so far, and the ``position`` from which the rest is missing."""

    position: int
    stop: int
    entries: list[Entry] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether nothing of the range is missing."""
        return self.position >= self.stop


class PartitionReads:
    """The reads of one partition. Each fetch serves all that it overlaps; reads take turns in choosing where.

    So a read near the end of the log neither waits for a long one that began earlier nor for one that waits for
    records to come, and many reads of about the same range cost one fetch.
    """

    def __init__(self, gap_records_max: int) -> None:
        self._gap = gap_records_max
        self._reads: deque[RangeRead] = deque()

    def __len__(self) -> int:
        return len(self._reads)

    def add(self, read: RangeRead) -> None:
        """Let ``read`` wait."""
        self._reads.append(read)

    def discard(self, read: RangeRead) -> None:
        """Nobody waits for ``read`` any more; it may be complete already."""
        if read in self._reads:
            self._reads.remove(read)

    def target(self) -> Span:
        """What to fetch now, for at least one waiting read: that of the read whose turn it is, with its neighbours.

        A read that is behind it by at most ``gap_records_max`` is served by the same fetch.
        """
        chosen = self._reads[0]
        self._reads.rotate(-1)
        near = [read for read in self._reads if chosen.position - self._gap <= read.position <= chosen.stop]
        return Span(min(read.position for read in near), max(read.stop for read in near))

    def take(self, start: int, entries: Sequence[Entry], next_offset: int) -> list[RangeRead]:
        """Give out what a fetch at ``start`` brought up to ``next_offset``; the reads that are complete with it."""
        offsets = [entry.offset for entry in entries]
        for read in self._reads:
            if start <= read.position < next_offset:
                low, high = (bisect_left(offsets, edge) for edge in (read.position, read.stop))
                read.entries.extend(entries[low:high])
                read.position = next_offset
        complete = [read for read in self._reads if read.complete]
        self._reads = deque(read for read in self._reads if not read.complete)
        return complete
