"""Which offsets of a partition's newest stretch belong to which key. Pure."""

from collections.abc import Iterable

from turnstream.log.ranges import Entry


class KeyOffsets:
    """Knows ``start <= offset < stop`` of one partition, and grows at its end.

    Of the last records at least ``records_max / 2`` stay known: what is older is forgotten in halves.
    """

    def __init__(self, position: int, records_max: int) -> None:
        self.start = self.stop = position
        self._half = records_max // 2
        self._older: dict[bytes | None, list[int]] = {}
        self._newer: dict[bytes | None, list[int]] = {}
        self._newer_from = position
        self._newer_records = 0

    def extend(self, start: int, stop: int, entries: Iterable[Entry]) -> None:
        """Learn ``entries``, all that there are from ``start`` to ``stop``; it may know their beginning already."""
        if not start <= self.stop < stop:
            return
        for entry in entries:
            if entry.offset >= self.stop:
                self._newer.setdefault(entry.key, []).append(entry.offset)
                self._newer_records += 1
        self.stop = stop
        if self._newer_records >= self._half:
            self.start, self._older = self._newer_from, self._newer
            self._newer_from, self._newer, self._newer_records = stop, {}, 0

    def of(self, key: bytes, start: int, stop: int) -> list[int]:
        """The offsets of ``key`` with ``start <= offset < stop``, in their order, as far as they are known."""
        known = (*self._older.get(key, ()), *self._newer.get(key, ()))
        return [offset for offset in known if start <= offset < stop]
