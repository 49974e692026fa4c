"""Usage per user, model, minute and hour. Pure.

A window is a minute or an hour of event time (``recorded_at_ms``), never of the worker's clock, so a worker that
catches up counts as one that keeps up. The state of one user and model is plain JSON, which Faust's table keeps and
restores. Each minute knows marks of the turns in it, so a redelivered event counts once, in the minute and in its hour.
Events are counted by the batch: what many events of one key change is written and told once. An event
later than ``windows_kept_max`` minutes behind the newest of its user and model is *late*: its window is gone, and
counting it alone would overwrite the published total with a smaller one; it is left out (the sums over
``usage.events.v1`` itself stay exact).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, NotRequired, TypedDict

from pydantic import BaseModel, ConfigDict, Field

from schemas.events import UsageRecorded, UsageRolledUp
from stream_processors.windows.abuse_settings import AbuseSettings
from stream_processors.windows.turn_marks import marks, remember, turn_mark

WINDOW_MS: Final = 60_000
HOUR_MS: Final = 60 * WINDOW_MS
# Minutes are kept under their start alone.
_HOUR_PREFIX: Final = "h"


class WindowsSettings(BaseModel):
    """Settings of the windows worker. The composition root sets ``bootstrap_servers``."""

    model_config = ConfigDict(frozen=True)

    bootstrap_servers: tuple[str, ...] = Field(default=("127.0.0.1:19092",), min_length=1, description="host:port")
    windows_kept_max: int = Field(default=10, ge=1, description="Minutes kept per user and model.")
    turns_per_window_max: int = Field(
        default=500, ge=1, description="Turns that a window remembers; further ones count without deduplication."
    )
    idle_minutes_max: int = Field(
        default=120, ge=1, description="Event time until an unused user and model is dropped."
    )
    changelog_hours_max: int = Field(default=48, ge=1, description="Retention of the table's changelog.")
    changelog_replication: int = Field(default=1, ge=1)
    commit_interval_s: float = Field(default=1.0, gt=0, description="A short one keeps redeliveries few.")
    batch_records_max: int = Field(default=500, ge=1, description="Records that are counted together.")
    batch_seconds_max: float = Field(
        default=0.2, ge=0, description="How long records wait for others to be counted with; signals are later by that."
    )
    session_timeout_s: float = Field(default=10.0, gt=0, description="Until a dead worker's partitions move on.")
    poll_records_max: int = Field(default=500, ge=1)
    stream_records_max: int = Field(default=1_000, ge=1, description="Records buffered for the agent.")
    abuse: AbuseSettings = AbuseSettings()
    start_seconds_max: float = Field(default=60.0, gt=0, description="Until the table is restored and reading begins.")
    stop_seconds_max: float = Field(default=15.0, gt=0)


class Window(TypedDict):
    """One window of one user and model; ``seen`` holds marks of the turns in it, for a minute.

    What was kept by a version that did not know cached tokens and costs has none; an older one kept turn ids.
    """

    turns: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: NotRequired[int]
    cost_nano_usd: NotRequired[int]
    seen: str | list[str]


Windows = Mapping[str, Window]
"""Minutes by their start in decimal Unix milliseconds (JSON has no other keys); hours the same with an ``h`` before."""


@dataclass(frozen=True, slots=True)
class Counted:
    """The windows after events, the totals of the minutes and hours that they are in, and those that came late."""

    windows: Windows
    rollups: tuple[UsageRolledUp, ...]
    late: tuple[UsageRecorded, ...] = ()


def count(windows: Windows, event: UsageRecorded, settings: WindowsSettings) -> Counted:
    """Count ``event`` once. A redelivered event gives the same totals again; unused turns and late ones none."""
    return count_all(windows, (event,), settings)


def count_all(windows: Windows, events: Iterable[UsageRecorded], settings: WindowsSettings) -> Counted:
    """Count events of one user and model, each once, in their order; each window's total is given once."""
    changed: dict[str, Window] = {}
    late: list[UsageRecorded] = []
    newest, last = newest_start(windows), None
    for event in events:
        if event.unused:
            continue
        start = window_start(event)
        newest = max(newest, start)
        if start < _oldest(newest, settings):
            late.append(event)
            continue
        last = event
        hour_key, minute_key = f"{_HOUR_PREFIX}{event.recorded_at_ms - event.recorded_at_ms % HOUR_MS}", str(start)
        minute = changed.get(minute_key) or windows.get(minute_key) or _empty()
        hour = changed.get(hour_key) or windows.get(hour_key) or _empty()
        seen, mark = marks(minute["seen"]), turn_mark(event.turn_id)
        if mark not in seen:
            hour, minute = _added(hour, event), _added(minute, event)
            minute["seen"] = remember(seen, mark, settings.turns_per_window_max)
        changed[minute_key], changed[hour_key] = minute, hour
    if last is None:
        return Counted(windows, (), tuple(late))
    oldest, kept = _oldest(newest, settings), {**windows, **changed}
    for key in [key for key in kept if _end(key) <= oldest]:
        del kept[key]
    return Counted(kept, tuple(_rollup(last, *changed_one) for changed_one in changed.items()), tuple(late))


def window_start(event: UsageRecorded) -> int:
    """Unix milliseconds of the minute in which the event was recorded."""
    return event.recorded_at_ms - event.recorded_at_ms % WINDOW_MS


def newest_start(windows: Windows) -> int:
    """Start of the newest minute; 0 without any."""
    return max((int(key) for key in windows if key[0] != _HOUR_PREFIX), default=0)


def table_key(event: UsageRecorded) -> str:
    """The key of the event's windows in the table."""
    return joined(event.tenant_id, event.user_id, event.model)


def rollup_key(rollup: UsageRolledUp) -> str:
    """The record key on ``usage.rollups.v1``: ``tenant_id|user_id|model|window|window_start_ms``."""
    return joined(rollup.tenant_id, rollup.user_id, rollup.model, rollup.window, str(rollup.window_start_ms))


def joined(*parts: str) -> str:
    """One key of several parts, escaped, so that no two different users can have one key."""
    key = "|".join(parts)
    if "%" not in key and key.count("|") == len(parts) - 1:
        return key
    return "|".join(part.replace("%", "%25").replace("|", "%7C") for part in parts)


def _oldest(newest: int, settings: WindowsSettings) -> int:
    return newest - (settings.windows_kept_max - 1) * WINDOW_MS


def _end(key: str) -> int:
    return int(key[1:]) + HOUR_MS if key[0] == _HOUR_PREFIX else int(key) + WINDOW_MS


def _empty() -> Window:
    return Window(turns=0, prompt_tokens=0, completion_tokens=0, cached_tokens=0, cost_nano_usd=0, seen="")


def _added(window: Window, event: UsageRecorded) -> Window:
    return Window(
        turns=window["turns"] + 1,
        prompt_tokens=window["prompt_tokens"] + event.usage.prompt_tokens,
        completion_tokens=window["completion_tokens"] + event.usage.completion_tokens,
        cached_tokens=window.get("cached_tokens", 0) + event.usage.cached_tokens,
        cost_nano_usd=window.get("cost_nano_usd", 0) + event.cost_nano_usd,
        seen=window["seen"],
    )


def _rollup(event: UsageRecorded, key: str, window: Window) -> UsageRolledUp:
    kind: Literal["minute", "hour"] = "hour" if key[0] == _HOUR_PREFIX else "minute"
    start = int(key.removeprefix(_HOUR_PREFIX))
    return UsageRolledUp(
        tenant_id=event.tenant_id,
        user_id=event.user_id,
        model=event.model,
        window=kind,
        window_start_ms=start,
        window_end_ms=start + (WINDOW_MS if kind == "minute" else HOUR_MS),
        turns=window["turns"],
        prompt_tokens=window["prompt_tokens"],
        completion_tokens=window["completion_tokens"],
        cached_tokens=window.get("cached_tokens", 0),
        cost_nano_usd=window.get("cost_nano_usd", 0),
    )
