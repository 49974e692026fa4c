"""Who stands on the ladder now, as far as the signals were heard. Bounded, in memory."""

from schemas.abuse import AbuseLevel, AbuseSignalled


class Standings:
    """The newest signal of each user that has a level, until the level ends.

    When there are more than ``entries_max``, those whose levels end first make room: nobody is on a rung for ever, and
    abuse protection is a signal, never a promise.
    """

    def __init__(self, entries_max: int) -> None:
        self._entries_max = entries_max
        self._signals: dict[tuple[str, str], AbuseSignalled] = {}

    def __len__(self) -> int:
        return len(self._signals)

    def hear(self, signal: AbuseSignalled) -> None:
        """The newest word about a user."""
        user = (signal.tenant_id, signal.user_id)
        self._signals.pop(user, None)
        if signal.level is AbuseLevel.NONE:
            return
        self._signals[user] = signal
        if len(self._signals) > self._entries_max:
            self._make_room(signal.signalled_at_ms)

    def find(self, tenant_id: str, user_id: str, at_ms: int) -> AbuseSignalled | None:
        """The signal that holds for a user at ``at_ms``, in Unix milliseconds; None for one without a level."""
        signal = self._signals.get((tenant_id, user_id))
        return signal if signal is not None and _end_ms(signal) > at_ms else None

    def _make_room(self, now_ms: int) -> None:
        """Down to nine tenths, so that it is not sorted with every signal of a flood."""
        alive = sorted(self._signals.items(), key=lambda item: _end_ms(item[1]), reverse=True)
        kept = [item for item in alive if _end_ms(item[1]) > now_ms]
        self._signals = dict(kept[: max(1, self._entries_max * 9 // 10)])


def _end_ms(signal: AbuseSignalled) -> int:
    return signal.until_ms or 0
