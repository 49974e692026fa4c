"""The Faust app: usage, verdicts and evidence in, windows and standings in tables, rollups and signals out."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Final

from schemas.events import UsageRecorded
from schemas.ports import Metrics
from schemas.topics import ABUSE_EVIDENCE, MODERATION_DECISIONS, USAGE_EVENTS
from stream_processors.windows.core import WindowsSettings
from stream_processors.windows.faust_batches import Batches
from stream_processors.windows.faust_evidence import ORIGINS_TABLE, USERS_TABLE, Evidence
from stream_processors.windows.faust_lean import LeanApp
from stream_processors.windows.faust_records import STAGE, Write, live_events, raw_topic
from stream_processors.windows.faust_recovery import SafeTableManager
from stream_processors.windows.faust_rollups import TABLE, Rollups
from stream_processors.windows.faust_tables import BatchTable
from stream_processors.windows.kafka_partitions import Changelog

GROUP: Final = "turnstream.windows"

_SOURCES: Final = {source.name: source for source in (USAGE_EVENTS, MODERATION_DECISIONS, ABUSE_EVIDENCE)}
_AGENTS: Final = {USAGE_EVENTS: STAGE, MODERATION_DECISIONS: f"{STAGE}.verdicts", ABUSE_EVIDENCE: f"{STAGE}.evidence"}

# Records of several topics come in one fetch, for which the broker waited: that rest of them is here at once.
_FETCHES: Final = 10
# Of one partition, in one batch: a busy user's windows are some 10 KB. The broker takes a MiB.
_WRITTEN_BYTES_MAX: Final = 900_000


def changelogs(settings: WindowsSettings, partitions: int) -> tuple[tuple[str, ...], Changelog]:
    """The names of the topics that the tables are restored from, and how they are made."""
    tables = (TABLE, USERS_TABLE, ORIGINS_TABLE) if settings.abuse.enabled else (TABLE,)
    kept = timedelta(hours=settings.changelog_hours_max)
    config = {"cleanup.policy": "compact,delete", "retention.ms": str(int(kept.total_seconds() * 1000))}
    names = tuple(f"{GROUP}-{table}-changelog" for table in tables)
    return names, Changelog(partitions, settings.changelog_replication, config)


def make_app(settings: WindowsSettings, partitions: int, metrics: Metrics) -> Any:
    """The app, not started. Its group is ``turnstream.windows``, its changelogs have ``partitions`` like its source.

    At least once: records are acknowledged once the broker has the changes of the tables and all that was written;
    the tables know what they counted.
    The tables live in memory and on their changelogs.
    """
    app = LeanApp(
        GROUP,
        fetch_seconds_max=settings.batch_seconds_max,
        broker=[f"kafka://{server}" for server in settings.bootstrap_servers],
        store="memory://",
        autodiscover=False,
        web_enabled=False,
        TableManager=SafeTableManager,
        Table=BatchTable,
        processing_guarantee="at_least_once",
        consumer_auto_offset_reset="earliest",
        broker_commit_interval=settings.commit_interval_s,
        broker_session_timeout=settings.session_timeout_s,
        broker_heartbeat_interval=settings.session_timeout_s / 4,
        broker_max_poll_records=settings.poll_records_max,
        stream_buffer_maxsize=settings.stream_records_max,
        producer_acks=-1,
        producer_max_batch_size=_WRITTEN_BYTES_MAX,
        producer_max_request_size=_WRITTEN_BYTES_MAX * 2,
        topic_replication_factor=settings.changelog_replication,
        topic_partitions=partitions,
        topic_disable_leader=True,
    )

    _, changelog = changelogs(settings, partitions)

    def table(name: str, summary: str) -> Any:
        return app.Table(name, partitions=partitions, help=summary, extra_topic_configs=changelog.config)

    worker = _Worker(app, table, settings, metrics)
    batches = Batches(app, worker.work, settings.batch_records_max, settings.batch_seconds_max / _FETCHES)
    for source, name in _AGENTS.items():
        if settings.abuse.enabled or source is USAGE_EVENTS:
            app.agent(raw_topic(app, source.name), name=name)(batches.collect)

    app.task(batches.run)
    return app


class _Worker:
    """What is done with a batch of records."""

    def __init__(
        self, app: Any, make_table: Callable[[str, str], Any], settings: WindowsSettings, metrics: Metrics
    ) -> None:
        self._app = app
        self._rollups = Rollups(make_table, settings)
        self._evidence = Evidence(make_table, settings, metrics) if settings.abuse.enabled else None

    async def work(self, records: Sequence[Any]) -> None:
        """Count a batch, and return when the broker has everything that comes of it."""
        write_all = self._app.producer.write_all
        writes: list[Write] = []
        batch = list(live_events(records, _SOURCES, writes))
        writes += self._rollups.count(one for one in batch if isinstance(one.event, UsageRecorded))
        if self._evidence is None:
            await write_all(writes)
            return
        await write_all([*writes, *self._evidence.see(batch)])
        signals = self._evidence.signals()
        if signals:
            await write_all([write for _, write in signals.values()])
            await write_all(self._evidence.told(signals))
