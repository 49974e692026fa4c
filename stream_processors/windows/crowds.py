"""How many keys one address used lately. Pure.

The state of an address is plain JSON: each key with the newest time at which it was seen, in Unix milliseconds.
"""

from collections import OrderedDict

from stream_processors.windows.abuse_settings import AbuseSettings

Crowd = dict[str, int]


def see_key(crowd: Crowd, key_id: str, at_ms: int, settings: AbuseSettings) -> Crowd:
    """``crowd`` with one more sight of a key; what has left the window, or is beyond the bound, is forgotten."""
    seen = {**crowd, key_id: max(at_ms, crowd.get(key_id, 0))}
    from_ms = max(seen.values()) - settings.keys_window_ms
    newest = sorted(((moment, key) for key, moment in seen.items() if moment > from_ms), reverse=True)
    return {key: moment for moment, key in newest[: settings.keys_per_origin_max]}


def newest_ms(crowd: Crowd) -> int:
    """When the address was last seen; 0 for one that never was."""
    return max(crowd.values(), default=0)


class Noted:
    """What was told lately, so that it is not told with every turn. Bounded: what is oldest is told again."""

    def __init__(self, again_ms: int, entries_max: int) -> None:
        self._again_ms = again_ms
        self._entries_max = entries_max
        self._told: OrderedDict[tuple[str, str], int] = OrderedDict()

    def is_news(self, origin: str, key_id: str, at_ms: int) -> bool:
        """Whether it was not told within the last ``again_ms`` of event time."""
        return abs(at_ms - self._told.get((origin, key_id), -self._again_ms)) >= self._again_ms

    def note(self, origin: str, key_id: str, at_ms: int) -> None:
        """It was told."""
        self._told[origin, key_id] = at_ms
        self._told.move_to_end((origin, key_id))
        if len(self._told) > self._entries_max:
            self._told.popitem(last=False)
