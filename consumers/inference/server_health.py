"""Which server of a pool gets the next answer, and when one counts as dead. Pure: ``now_s`` is any monotonic clock."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf
from typing import Final

from consumers.inference.pool import PoolSettings

_DOUBLINGS_MAX: Final = 16


@dataclass(slots=True, eq=False)
class ServerHealth:
    """What this process knows of one server."""

    settings: PoolSettings
    in_flight: int = 0
    failures: int = 0
    avoided_until_s: float = 0.0
    heard_at_s: float = 0.0
    chosen_at: int = 0
    # Some upstreams answer no question but the one for an answer: only one that did can be missed.
    answers_probes: bool = False
    unanswered_probes: int = 0
    probed_at_s: float = -inf
    works: bool = False

    def begin(self, now_s: float, chosen_at: int) -> None:
        """An answer was given to it, the ``chosen_at``-th of the pool."""
        if not self.in_flight:
            self.heard_at_s = now_s
        self.in_flight += 1
        self.chosen_at = chosen_at

    def end(self) -> None:
        """An answer is over, whether well or not."""
        self.in_flight -= 1

    def hear(self, now_s: float) -> None:
        """It sent a piece of an answer."""
        self.heard_at_s = now_s
        self.unanswered_probes = 0
        if not self.works:
            # Asked before it was up, it gave no answer; what it says now counts.
            self.works, self.probed_at_s = True, -inf

    def succeed(self) -> None:
        """It completed an answer: whatever was wrong is over."""
        self.failures = 0
        self.avoided_until_s = 0.0

    def fail(self, now_s: float) -> None:
        """An answer broke off: avoid it for a while. All answers that break with it are one failure."""
        if now_s < self.avoided_until_s:
            return
        cooldown = self.settings.cooldown_s_min * 2 ** min(self.failures, _DOUBLINGS_MAX)
        self.failures += 1
        self.avoided_until_s = now_s + min(self.settings.cooldown_s_max, cooldown)

    def wants_probe(self, now_s: float) -> bool:
        """Whether to ask it if it is alive: it owes pieces and sends none, or was not well, or never said so."""
        silent = self.in_flight > 0 and now_s - self.heard_at_s >= self.settings.silence_s_min
        unknown = not self.answers_probes and now_s - self.probed_at_s >= self.settings.cooldown_s_max
        return silent or unknown or self.unanswered_probes > 0 or now_s < self.avoided_until_s

    def probed(self, now_s: float, *, answered: bool) -> bool:
        """Note a probe; whether it is dead, so that its answers must go on elsewhere."""
        self.probed_at_s = now_s
        if not answered:
            self.unanswered_probes += 1
            return self.answers_probes and self.unanswered_probes >= self.settings.unanswered_probes_max
        if self.unanswered_probes:
            # It was away and is back. One that answers probes and breaks its answers keeps its cooldown.
            self.avoided_until_s = 0.0
        self.answers_probes = True
        self.unanswered_probes = 0
        return False

    def avoided(self, now_s: float) -> bool:
        """Whether others are better: it failed lately, or does not answer when asked."""
        return now_s < self.avoided_until_s or (self.answers_probes and self.unanswered_probes > 0)


def choose(servers: Iterable[ServerHealth], now_s: float) -> ServerHealth:
    """The one with the least answers in flight that is not avoided, in turns; if all are, the first to be free again.

    Avoiding is a preference: a pool of one server is tried, however often it failed.
    """

    def rank(server: ServerHealth) -> tuple[bool, float, int, int]:
        avoided = server.avoided(now_s)
        return avoided, server.avoided_until_s if avoided else 0.0, server.in_flight, server.chosen_at

    return min(servers, key=rank)
