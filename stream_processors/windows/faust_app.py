"""The Faust app: usage, verdicts and evidence in, windows and standings in tables, rollups and signals out."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import faust
import structlog

from schemas import headers
from schemas.events import UsageRecorded
from schemas.ports import Metrics
from schemas.serde import encode, event_headers
from schemas.topics import ABUSE_EVIDENCE, MODERATION_DECISIONS, USAGE_EVENTS, USAGE_ROLLUPS
from stream_processors.windows.core import Counted, WindowsSettings, count, newest_start, rollup_key, table_key
from stream_processors.windows.core import window_start as start_of
from stream_processors.windows.faust_evidence import EvidenceAgents
from stream_processors.windows.faust_records import STAGE, live_events, marks_of, raw_topic, send_all
from stream_processors.windows.faust_recovery import SafeTableManager
from stream_processors.windows.idle_keys import IdleKeys

GROUP: Final = "turnstream.windows"
# The name is that of its changelog: one that has hours too, beside minutes.
TABLE: Final = "usage_minutes"

_log: Final = structlog.get_logger(__name__)


def make_app(settings: WindowsSettings, partitions: int, data_dir: Path, metrics: Metrics) -> Any:
    """The app, not started. Its group is ``turnstream.windows``, its changelogs have ``partitions`` like its source.

    At least once: offsets are committed after the tables and what was written; the tables know what they counted.
    ``data_dir`` is a folder that Faust insists on; the tables live in memory and on their changelogs.
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

    def table(name: str, summary: str) -> Any:
        return app.Table(
            name,
            default=dict,
            partitions=partitions,
            help=summary,
            extra_topic_configs={
                "cleanup.policy": "compact,delete",
                "retention.ms": str(int(timedelta(hours=settings.changelog_hours_max).total_seconds() * 1000)),
            },
        )

    windows = table(TABLE, "minute and hour windows per tenant, user and model")
    evidence = EvidenceAgents(app, table, settings, metrics)
    app.agent(raw_topic(app, USAGE_EVENTS.name), name=STAGE)(_usage_agent(app, windows, evidence, settings))
    if settings.abuse.enabled:
        app.agent(raw_topic(app, MODERATION_DECISIONS.name), name=f"{STAGE}.verdicts")(evidence.verdicts)
        app.agent(raw_topic(app, ABUSE_EVIDENCE.name), name=f"{STAGE}.evidence")(evidence.weigh)
    return app


def _usage_agent(app: Any, table: Any, evidence: EvidenceAgents, settings: WindowsSettings) -> Callable[[Any], Any]:
    rollups, dead_letters = raw_topic(app, USAGE_ROLLUPS.name), raw_topic(app, USAGE_EVENTS.dlq)
    idle = IdleKeys(settings.idle_minutes_max * 60_000)

    async def roll_up(stream: Any) -> None:
        event: UsageRecorded
        async for event, message in live_events(stream, USAGE_EVENTS, dead_letters):
            if settings.abuse.enabled:
                await evidence.see_usage(event, message)
            counted = _count(table, idle, message.partition, event, settings)
            if not counted.rollups and not event.unused:
                _log.warning("usage_late", turn_id=event.turn_id, partition=message.partition, offset=message.offset)
            trace = headers.header(marks_of(message), headers.TRACEPARENT)
            marks = event_headers(USAGE_ROLLUPS, None, trace)
            written = [(rollup_key(rollup).encode(), encode(rollup)) for rollup in counted.rollups]
            await send_all(rollups, written, marks)

    return roll_up


def _count(table: Any, idle: IdleKeys, partition: int, event: UsageRecorded, settings: WindowsSettings) -> Counted:
    key, moment_ms = table_key(event), start_of(event)
    counted = count(table[key], event, settings)
    if counted.rollups:
        table[key] = counted.windows
        idle.use(partition, key, moment_ms)
    for unused in idle.take_idle(partition, moment_ms):
        # The partition may have been elsewhere and come back: the table knows better when the key was used.
        if newest_start(table[unused]) < moment_ms - settings.idle_minutes_max * 60_000:
            table.pop(unused, None)
    return counted
