"""The newest stretch of a partition: which offsets belong to which key, and its last records themselves. Pure."""

from collections.abc import Iterable, Sequence

from turnstream.log.ranges import Entry


class KnownRecords:
    """Knows ``start <= offset < stop`` of one partition, and grows at its end.

    Of the last records at least ``records_max / 2`` stay known: what is older is forgotten in halves. The records
    themselves are kept in the same way, within about ``bytes_max``.
    """

    def __init__(self, position: int, records_max: int, bytes_max: int) -> None:
        self.start = self.stop = position
        self._half = records_max // 2
        self._older: dict[bytes | None, list[int]] = {}
        self._newer: dict[bytes | None, list[int]] = {}
        self._newer_from = position
        self._newer_records = 0
        self._recent = _RecentEntries(bytes_max)

    def extend(self, start: int, stop: int, entries: Iterable[Entry]) -> None:
        """Learn ``entries``, all that there are from ``start`` to ``stop``; it may know their beginning already."""
        if not start <= self.stop < stop:
            return
        for entry in entries:
            if entry.offset >= self.stop:
                self._newer.setdefault(entry.key, []).append(entry.offset)
                self._newer_records += 1
                self._recent.keep(entry)
        self.stop = stop
        if self._newer_records >= self._half:
            self.start, self._older = self._newer_from, self._newer
            self._newer_from, self._newer, self._newer_records = stop, {}, 0

    def of(self, key: bytes, start: int, stop: int) -> list[int]:
        """The offsets of ``key`` with ``start <= offset < stop``, in their order, as far as they are known."""
        known = (*self._older.get(key, ()), *self._newer.get(key, ()))
        return [offset for offset in known if start <= offset < stop]

    def at(self, offsets: Sequence[int]) -> list[Entry] | None:
        """The records at ``offsets`` themselves; None when one of them is not kept."""
        entries = [entry for offset in offsets if (entry := self._recent.at(offset)) is not None]
        return entries if len(entries) == len(offsets) else None


class _RecentEntries:
    """The last entries by offset; what is older than ``bytes_max / 2`` is forgotten at once."""

    def __init__(self, bytes_max: int) -> None:
        self._half = bytes_max // 2
        self._older: dict[int, Entry] = {}
        self._newer: dict[int, Entry] = {}
        self._newer_bytes = 0

    def keep(self, entry: Entry) -> None:
        self._newer[entry.offset] = entry
        self._newer_bytes += len(entry.key or b"") + len(entry.value or b"")
        if self._newer_bytes >= self._half:
            self._older, self._newer, self._newer_bytes = self._newer, {}, 0

    def at(self, offset: int) -> Entry | None:
        return self._newer.get(offset) or self._older.get(offset)
