"""Which keys of the table nobody uses any more. Pure."""

from collections import OrderedDict
from typing import Final

# Per event two keys may go and one may come, so the table shrinks to what is in use.
_DROPPED_PER_EVENT_MAX: Final = 2


class IdleKeys:
    """The keys of the table by partition, least recently used first, in event time.

    Faust lets a table change only while it handles a record of the same partition, so keys go one by one, when a
    record of their partition comes. Keys restored from the changelog are known from their next use on; those that are
    never used again go with the changelog's retention, at the next start.
    """

    def __init__(self, idle_ms_max: int) -> None:
        self._idle_ms_max = idle_ms_max
        self._used: dict[int, OrderedDict[str, int]] = {}

    def use(self, partition: int, key: str, moment_ms: int) -> None:
        """Note that ``key`` was used at ``moment_ms`` of event time."""
        keys = self._used.setdefault(partition, OrderedDict())
        keys[key] = max(moment_ms, keys.get(key, 0))
        keys.move_to_end(key)

    def take_idle(self, partition: int, moment_ms: int) -> list[str]:
        """Up to two keys of ``partition`` that were last used too long before ``moment_ms``; they are forgotten."""
        keys = self._used.get(partition)
        idle: list[str] = []
        while keys and len(idle) < _DROPPED_PER_EVENT_MAX:
            key, used_ms = next(iter(keys.items()))
            if moment_ms - used_ms <= self._idle_ms_max:
                break
            del keys[key]
            idle.append(key)
        return idle
