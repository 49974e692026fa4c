"""The Faust app: reads usage events, keeps windows in a table, writes rollups."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import faust
import structlog

from schemas import headers
from schemas.errors import Malformed
from schemas.events import UsageRecorded, UsageRolledUp
from schemas.serde import decode, encode, event_headers
from schemas.topics import USAGE_EVENTS, USAGE_ROLLUPS
from stream_processors.windows.core import WindowsSettings, count, newest_start, rollup_key, table_key, window_start
from stream_processors.windows.faust_recovery import SafeTableManager
from stream_processors.windows.idle_keys import IdleKeys

STAGE: Final = "windows"
GROUP: Final = "turnstream.windows"
TABLE: Final = "usage_minutes"

_log: Final = structlog.get_logger(__name__)


def make_app(settings: WindowsSettings, partitions: int, data_dir: Path) -> Any:
    """The app, not started. Its group is ``turnstream.windows``, its changelog has ``partitions`` like its source.

    At least once: offsets are committed after the table and the rollup; the windows themselves know what they counted.
    ``data_dir`` is a folder that Faust insists on; the table lives in memory and on its changelog.
    """
    app = faust.App(
        GROUP,
        broker=[f"kafka://{server}" for server in settings.bootstrap_servers],
        datadir=str(data_dir),
        store="memory://",
        autodiscover=False,
        web_enabled=False,
        TableManager=SafeTableManager,
        processing_guarantee="at_least_once",
        consumer_auto_offset_reset="earliest",
        broker_commit_interval=settings.commit_interval_s,
        broker_session_timeout=settings.session_timeout_s,
        broker_heartbeat_interval=settings.session_timeout_s / 4,
        broker_max_poll_records=settings.poll_records_max,
        stream_buffer_maxsize=settings.stream_records_max,
        producer_acks=-1,
        topic_replication_factor=settings.changelog_replication,
        topic_partitions=partitions,
        topic_disable_leader=True,
    )
    source = app.topic(
        USAGE_EVENTS.name, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw"
    )
    table = app.Table(
        TABLE,
        default=dict,
        partitions=partitions,
        help="minute windows per tenant, user and model",
        extra_topic_configs={
            "cleanup.policy": "compact,delete",
            "retention.ms": str(int(timedelta(hours=settings.changelog_hours_max).total_seconds() * 1000)),
        },
    )
    app.agent(source, name=STAGE)(_agent(app, table, settings))
    return app


def _agent(app: Any, table: Any, settings: WindowsSettings) -> Callable[[Any], Any]:
    rollups = _sink(app, USAGE_ROLLUPS.name)
    dead_letters = _sink(app, USAGE_EVENTS.dlq)
    idle = IdleKeys(settings.idle_minutes_max * 60_000)

    async def roll_up(stream: Any) -> None:
        async for record in stream.events():
            message = record.message
            marks = _headers(message)
            if headers.header(marks, headers.REPLAY) is not None:
                continue
            try:
                event: UsageRecorded = decode(USAGE_EVENTS, record.value)
            except Malformed as error:
                await _bury(dead_letters, message, record.value, str(error))
                continue
            rollup = _count(table, idle, message.partition, event, settings)
            if rollup is None:
                _log.warning("usage_late", turn_id=event.turn_id, partition=message.partition, offset=message.offset)
                continue
            trace = headers.header(marks, headers.TRACEPARENT)
            await _send(rollups, rollup_key(rollup).encode(), encode(rollup), event_headers(USAGE_ROLLUPS, None, trace))

    return roll_up


def _count(
    table: Any, idle: IdleKeys, partition: int, event: UsageRecorded, settings: WindowsSettings
) -> UsageRolledUp | None:
    key, moment_ms = table_key(event), window_start(event)
    counted = count(table[key], event, settings)
    if counted.rollup is not None:
        table[key] = counted.windows
        idle.use(partition, key, moment_ms)
    for unused in idle.take_idle(partition, moment_ms):
        # The partition may have been elsewhere and come back: the table knows better when the key was used.
        if newest_start(table[unused]) < moment_ms - settings.idle_minutes_max * 60_000:
            table.pop(unused, None)
    return counted.rollup


def _sink(app: Any, name: str) -> Any:
    return app.topic(name, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")


async def _send(topic: Any, key: bytes | None, value: bytes, marks: headers.Headers) -> None:
    # The first await hands the record over, the second waits until the broker has it.
    await (await topic.send(key=key, value=value, headers=list(marks)))


async def _bury(dead_letters: Any, message: Any, value: bytes, reason: str) -> None:
    _log.warning("usage_malformed", partition=message.partition, offset=message.offset)
    origin = headers.make_headers(
        (
            (headers.DLQ_TOPIC, message.topic),
            (headers.DLQ_PARTITION, str(message.partition)),
            (headers.DLQ_OFFSET, str(message.offset)),
            (headers.DLQ_STAGE, STAGE),
            (headers.DLQ_ERROR, reason),
        )
    )
    await _send(dead_letters, message.key, value, (*_headers(message), *origin))


def _headers(message: Any) -> headers.Headers:
    found = message.headers or ()
    return tuple(found.items() if isinstance(found, dict) else found)
