"""Where a user stands on the ladder: none, warn, slow, suspend. Pure.

The state of one user (a ``Standing``) is plain JSON, which Faust's table keeps and restores. Time is that of the
events: a worker that catches up judges as one that keeps up, and an event that comes again changes nothing.

A level is three moments: until when the user stands at least on each rung. What is counted in a cause's window lifts
the user to the highest rung whose threshold it reaches (and to all below it), from then for the rung's duration; below
that rung stands the next lower one for its own duration, so that nobody falls from the top to the ground. As long as
what is counted stays above the lower threshold of the rung on which the user stands, its time begins anew: a user
falls only after a quiet time. The moments only ever grow, so more evidence never lowers a level.
"""

from collections.abc import Mapping, Sequence
from typing import Final, TypedDict

from schemas.abuse import AbuseCause, AbuseLevel, AbuseSignalled
from stream_processors.windows.abuse_settings import AbuseSettings, Rungs
from stream_processors.windows.turn_marks import marks, remember_newest, turn_mark

LEVELS: Final = (AbuseLevel.NONE, AbuseLevel.WARN, AbuseLevel.SLOW, AbuseLevel.SUSPEND)
TURNS_WINDOW_MS: Final = 60_000
_SLOT_MS: Final = 5_000
_TOP: Final = len(LEVELS) - 1


class Standing(TypedDict):
    """What is known of one user; times in Unix milliseconds.

    ``blocked``: the turns whose input was blocked, with the time. ``turns``: the number of turns by the start of their
    five seconds; ``seen``: marks of the newest. ``keys``: the time of the last count of keys, and that count.
    ``until``: the ends of warn, slow and suspend. ``told``: the level (by its place) and the end that the newest
    signal named. Nothing that happened up to ``lifted`` counts.
    """

    newest: int
    lifted: int
    blocked: dict[str, int]
    turns: dict[str, int]
    seen: str | list[str]
    keys: list[int]
    causes: list[AbuseCause]
    until: list[int]
    told: list[int]


def new_standing() -> Standing:
    """That of a user of whom nothing is known."""
    return Standing(
        newest=0,
        lifted=0,
        blocked={},
        turns={},
        seen="",
        keys=[0, 0],
        causes=[],
        until=[0] * _TOP,
        told=[0, 0],
    )


def see_turn(standing: Standing, turn_id: str, at_ms: int, settings: AbuseSettings) -> Standing:
    """One more turn of the user, unless it is among the last that were seen."""
    seen, mark = marks(standing["seen"]), turn_mark(turn_id)
    if at_ms <= standing["lifted"] or mark in seen:
        return _judge(standing, settings)
    slot = str(at_ms - at_ms % _SLOT_MS)
    turns = {**standing["turns"], slot: standing["turns"].get(slot, 0) + 1}
    seen = remember_newest(seen, mark, settings.turns_remembered_max)
    return _judge(_at(Standing({**standing, "turns": turns, "seen": seen}), at_ms, settings), settings)


def see_blocked(standing: Standing, turn_id: str, at_ms: int, settings: AbuseSettings) -> Standing:
    """One more input of the user that moderation blocked."""
    if at_ms <= standing["lifted"] or turn_id in standing["blocked"]:
        return _judge(standing, settings)
    by_age = sorted([*standing["blocked"].items(), (turn_id, at_ms)], key=lambda item: item[1])
    blocked = dict(by_age[-settings.blocked_remembered_max :])
    return _judge(_at(Standing({**standing, "blocked": blocked}), at_ms, settings), settings)


def see_keys(standing: Standing, keys: int, at_ms: int, settings: AbuseSettings) -> Standing:
    """The user's address was seen with so many keys."""
    if at_ms <= standing["lifted"]:
        return _judge(standing, settings)
    newest = max([at_ms, keys], standing["keys"])
    return _judge(_at(Standing({**standing, "keys": newest}), at_ms, settings), settings)


def lift(standing: Standing, at_ms: int) -> Standing:
    """An operator forgave the user: what happened up to ``at_ms`` counts no more."""
    if at_ms <= standing["lifted"]:
        return standing
    fresh = new_standing()
    return Standing({**fresh, "newest": max(at_ms, standing["newest"]), "lifted": at_ms, "told": standing["told"]})


def level_of(standing: Standing, at_ms: int) -> int:
    """On which rung the user stands at ``at_ms``: a place in ``LEVELS``."""
    return max((place for place, end in enumerate(standing["until"], start=1) if end > at_ms), default=0)


def due(standing: Standing, tenant_id: str, user_id: str, settings: AbuseSettings) -> AbuseSignalled | None:
    """The signal that is to be given now: the level is not that of the last one, or lasts notably longer."""
    now_ms = standing["newest"]
    level = level_of(standing, now_ms)
    told, told_until = standing["told"]
    until_ms = standing["until"][level - 1] if level else 0
    if level == told and until_ms - told_until < settings.signal_again_seconds * 1_000:
        return None
    return AbuseSignalled(
        tenant_id=tenant_id,
        user_id=user_id,
        level=LEVELS[level],
        causes=tuple(sorted(standing["causes"])) if level else (),
        counts={cause: count for cause, count in counts(standing, settings).items() if count},
        until_ms=until_ms or None,
        signalled_at_ms=now_ms,
    )


def told(standing: Standing, signal: AbuseSignalled) -> Standing:
    """The same, after ``signal`` was given."""
    return Standing({**standing, "told": [LEVELS.index(signal.level), signal.until_ms or 0]})


def counts(standing: Standing, settings: AbuseSettings) -> Mapping[AbuseCause, int]:
    """What is in the windows of the causes at the newest event."""
    now_ms = standing["newest"]
    keys_at_ms, keys = standing["keys"]
    return {
        "blocked_inputs": len(standing["blocked"]),
        "burst": sum(standing["turns"].values()),
        "many_keys": keys if keys_at_ms > now_ms - settings.keys_window_ms else 0,
    }


def _at(standing: Standing, at_ms: int, settings: AbuseSettings) -> Standing:
    """``standing`` at the newer of its own time and ``at_ms``: what has left the windows is forgotten."""
    now_ms = max(standing["newest"], at_ms)
    blocked_from, turns_from = now_ms - settings.blocked_window_ms, now_ms - TURNS_WINDOW_MS
    blocked = {turn_id: moment for turn_id, moment in standing["blocked"].items() if moment > blocked_from}
    turns = {slot: turns for slot, turns in standing["turns"].items() if int(slot) > turns_from}
    return Standing({**standing, "newest": now_ms, "blocked": blocked, "turns": turns})


def _judge(standing: Standing, settings: AbuseSettings) -> Standing:
    now_ms, counted = standing["newest"], counts(standing, settings)
    current = level_of(standing, now_ms)
    level = max(_reached(count, settings.rungs(cause), current, settings) for cause, count in counted.items())
    causes = set(standing["causes"]) if current else set()
    if not level:
        return Standing({**standing, "causes": sorted(causes)})
    # Judged from where the user stands now: the same again would change nothing.
    current = max(level, current)
    causes |= {cause for cause, count in counted.items() if _reached(count, settings.rungs(cause), current, settings)}
    until = _prolonged(standing["until"], level, now_ms, settings)
    return Standing({**standing, "until": until, "causes": sorted(causes)})


def _reached(count: int, rungs: Rungs, current: int, settings: AbuseSettings) -> int:
    """The highest rung whose threshold ``count`` reaches; for the rung on which the user stands, the lower one."""
    reached = 0
    for place, threshold in enumerate((rungs.warn, rungs.slow, rungs.suspend), start=1):
        if threshold is None:
            continue
        needed = threshold * settings.fall_share if place <= current else threshold
        if count >= needed:
            reached = place
    return reached


def _prolonged(until: Sequence[int], level: int, now_ms: int, settings: AbuseSettings) -> list[int]:
    ends, end_ms = list(until), now_ms
    for place in range(level, 0, -1):
        end_ms += settings.duration_ms(place)
        ends[place - 1] = max(ends[place - 1], end_ms)
    return ends
