"""Usage per user, model and minute. Pure.

A window is a minute of event time (``recorded_at_ms``), never of the worker's clock, so a worker that catches up counts
as one that keeps up. The state of one user and model is plain JSON, which Faust's table keeps and restores. Each window
knows the turns in it, so a redelivered event counts once. An event later than ``windows_kept_max`` minutes behind the
newest of its user and model is *late*: its window is gone, and counting it alone would overwrite the published total
with a smaller one; it is left out (the sums over ``usage.events.v1`` itself stay exact).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypedDict

from pydantic import BaseModel, ConfigDict, Field

from schemas.events import UsageRecorded, UsageRolledUp

WINDOW_MS: Final = 60_000


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
    commit_interval_s: float = Field(default=0.2, gt=0, description="A short one keeps redeliveries few.")
    session_timeout_s: float = Field(default=10.0, gt=0, description="Until a dead worker's partitions move on.")
    poll_records_max: int = Field(default=500, ge=1)
    stream_records_max: int = Field(default=1_000, ge=1, description="Records buffered for the agent.")
    start_seconds_max: float = Field(default=60.0, gt=0, description="Until the table is restored and reading begins.")
    stop_seconds_max: float = Field(default=15.0, gt=0)


class Window(TypedDict):
    """One minute of one user and model; ``seen`` holds ids of the turns in it."""

    turns: int
    prompt_tokens: int
    completion_tokens: int
    seen: list[str]


Windows = Mapping[str, Window]
"""Windows by their start, in decimal Unix milliseconds (JSON has no other keys)."""


@dataclass(frozen=True, slots=True)
class Counted:
    """The windows after an event, and the total of the event's window; no total for a late or an unused one."""

    windows: Windows
    rollup: UsageRolledUp | None


def count(windows: Windows, event: UsageRecorded, settings: WindowsSettings) -> Counted:
    """Count ``event`` in its window, once. A redelivered event gives the same total again; unused turns none."""
    if event.unused:
        return Counted(windows, None)
    start = window_start(event)
    newest = max((int(key) for key in windows), default=start)
    oldest = max(newest, start) - (settings.windows_kept_max - 1) * WINDOW_MS
    if start < oldest:
        return Counted(windows, None)
    window = _added(windows.get(str(start)), event, settings.turns_per_window_max)
    kept = {key: value for key, value in windows.items() if int(key) >= oldest}
    return Counted({**kept, str(start): window}, _rollup(event, start, window))


def window_start(event: UsageRecorded) -> int:
    """Unix milliseconds of the minute in which the event was recorded."""
    return event.recorded_at_ms - event.recorded_at_ms % WINDOW_MS


def newest_start(windows: Windows) -> int:
    """Start of the newest window; 0 without any."""
    return max((int(key) for key in windows), default=0)


def table_key(event: UsageRecorded) -> str:
    """The key of the event's windows in the table."""
    return _joined(event.tenant_id, event.user_id, event.model)


def rollup_key(rollup: UsageRolledUp) -> str:
    """The record key on ``usage.rollups.v1``: ``tenant_id|user_id|model|window_start_ms``."""
    return _joined(rollup.tenant_id, rollup.user_id, rollup.model, str(rollup.window_start_ms))


def _joined(*parts: str) -> str:
    # Escaped, so that no two different users can have one key.
    return "|".join(part.replace("%", "%25").replace("|", "%7C") for part in parts)


def _added(window: Window | None, event: UsageRecorded, turns_max: int) -> Window:
    if window is None:
        window = Window(turns=0, prompt_tokens=0, completion_tokens=0, seen=[])
    if event.turn_id in window["seen"]:
        return window
    return Window(
        turns=window["turns"] + 1,
        prompt_tokens=window["prompt_tokens"] + event.usage.prompt_tokens,
        completion_tokens=window["completion_tokens"] + event.usage.completion_tokens,
        seen=[*window["seen"], event.turn_id][:turns_max],
    )


def _rollup(event: UsageRecorded, start: int, window: Window) -> UsageRolledUp:
    return UsageRolledUp(
        tenant_id=event.tenant_id,
        user_id=event.user_id,
        model=event.model,
        window_start_ms=start,
        window_end_ms=start + WINDOW_MS,
        turns=window["turns"],
        prompt_tokens=window["prompt_tokens"],
        completion_tokens=window["completion_tokens"],
    )
