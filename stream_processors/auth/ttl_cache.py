"""A bounded map whose entries expire."""

from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class TtlCache(Generic[K, V]):
    """Keeps up to ``entries_max`` values for ``ttl_s`` seconds each; the oldest make room.

    Pure: the caller passes the time, in seconds of any clock that does not run backwards.
    """

    def __init__(self, ttl_s: float, entries_max: int) -> None:
        self._ttl_s = ttl_s
        self._entries_max = entries_max
        # All entries live equally long, so insertion order is order of expiry.
        self._entries: dict[K, tuple[float, V]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, keys: Iterable[K], now_s: float) -> dict[K, V]:
        """The values of those ``keys`` that are here and still fresh."""
        found: dict[K, V] = {}
        for key in keys:
            entry = self._entries.get(key)
            if entry is not None and now_s < entry[0]:
                found[key] = entry[1]
        return found

    def put(self, values: Mapping[K, V], now_s: float) -> None:
        """Keep ``values`` from now on, replacing older ones of the same keys."""
        for key, value in values.items():
            self._entries.pop(key, None)
            self._entries[key] = (now_s + self._ttl_s, value)
        while len(self._entries) > self._entries_max:
            del self._entries[next(iter(self._entries))]

    def items(self) -> Iterator[tuple[K, V]]:
        """All entries, stale ones too."""
        return ((key, value) for key, (_, value) in self._entries.items())

    def drop(self, keys: Iterable[K]) -> None:
        """Forget the values of ``keys``."""
        for key in keys:
            self._entries.pop(key, None)
