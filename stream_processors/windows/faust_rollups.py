"""Usage by the minute and the hour: its table, and the totals that are told."""

from collections.abc import Callable, Iterable
from typing import Any, Final

import structlog

from schemas.serde import encode, event_headers
from schemas.topics import USAGE_ROLLUPS
from stream_processors.windows.core import WindowsSettings, count_all, newest_start, rollup_key, table_key
from stream_processors.windows.core import window_start as start_of
from stream_processors.windows.faust_records import Taken, Write, trace_of
from stream_processors.windows.idle_keys import IdleKeys

# The name is that of its changelog: one that has hours too, beside minutes.
TABLE: Final = "usage_minutes"

_log: Final = structlog.get_logger(__name__)


class Rollups:
    """Counts usage in its table, by the batch."""

    def __init__(self, make_table: Callable[[str, str], Any], settings: WindowsSettings) -> None:
        """``make_table`` takes a name and a summary."""
        self._settings = settings
        self._windows = make_table(TABLE, "minute and hour windows per tenant, user and model")
        self._idle = IdleKeys(settings.idle_minutes_max * 60_000)

    def count(self, batch: Iterable[Taken]) -> list[Write]:
        """Count bills; returns the totals of their windows, each once, and the table's changes."""
        by_key: dict[str, list[Taken]] = {}
        for bill in batch:
            by_key.setdefault(table_key(bill.event), []).append(bill)
        totals = [write for key, bills in by_key.items() for write in self._count(key, bills)]
        return [*totals, *self._windows.take_changes()]

    def _count(self, key: str, bills: list[Taken]) -> list[Write]:
        # Bills of a user are in one partition.
        partition = bills[-1].message.partition
        counted = count_all(self._windows.known(key) or {}, [bill.event for bill in bills], self._settings)
        if counted.rollups:
            self._windows.put(partition, key, counted.windows)
            self._idle.use(partition, key, newest_start(counted.windows))
        for event in counted.late:
            _log.warning("usage_late", turn_id=event.turn_id, partition=partition)
        self._drop_idle(partition, max(start_of(bill.event) for bill in bills))
        marks = event_headers(USAGE_ROLLUPS, None, trace_of(bills[-1].message))
        return [
            Write(USAGE_ROLLUPS.name, rollup_key(rollup).encode(), encode(rollup), marks) for rollup in counted.rollups
        ]

    def _drop_idle(self, partition: int, moment_ms: int) -> None:
        for unused in self._idle.take_idle(partition, moment_ms):
            # The partition may have been elsewhere and come back: the table knows better when the key was used.
            if newest_start(self._windows.known(unused) or {}) < moment_ms - self._settings.idle_minutes_max * 60_000:
                self._windows.drop(partition, unused)
