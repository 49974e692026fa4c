"""Runs the windows worker inside this process and its event loop, without Faust's own command line or web server."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import structlog

from schemas.errors import Fatal, Retryable
from schemas.ports import Metrics
from schemas.topics import ABUSE_EVIDENCE, ABUSE_SIGNALS, MODERATION_DECISIONS, USAGE_EVENTS, USAGE_ROLLUPS
from stream_processors.windows.core import WindowsSettings
from stream_processors.windows.faust_app import changelogs, make_app
from stream_processors.windows.kafka_partitions import create_changelogs, partition_counts

_TOPICS: Final = (
    USAGE_EVENTS.name,
    USAGE_EVENTS.dlq,
    USAGE_ROLLUPS.name,
    MODERATION_DECISIONS.name,
    MODERATION_DECISIONS.dlq,
    ABUSE_EVIDENCE.name,
    ABUSE_EVIDENCE.dlq,
    ABUSE_SIGNALS.name,
)

_log: Final = structlog.get_logger(__name__)


async def run(
    settings: WindowsSettings, stop: asyncio.Event, metrics: Metrics, on_started: Callable[[], None] = lambda: None
) -> None:
    """Roll usage up and watch for abuse until ``stop`` is set; ``on_started`` is called when reading begins.

    Raises Fatal when topics do not exist or do not fit together or when Faust crashes, Retryable when Kafka does not
    answer or Faust is not up within ``start_seconds_max``: the process is to be started again, and counts on from its
    changelogs.
    """
    counts = await partition_counts(settings.bootstrap_servers, _TOPICS, settings.start_seconds_max)
    if counts[ABUSE_EVIDENCE.name] != counts[USAGE_EVENTS.name]:
        # A user's evidence and usage must meet in one partition of the table.
        raise Fatal(f"{ABUSE_EVIDENCE.name} and {USAGE_EVENTS.name} must have equally many partitions")
    names, like = changelogs(settings, counts[USAGE_EVENTS.name])
    await create_changelogs(settings.bootstrap_servers, names, like, settings.start_seconds_max)
    app = make_app(settings, counts[USAGE_EVENTS.name], metrics)
    try:
        await _start(app, settings)
        _log.info("windows_started", partitions=counts[USAGE_EVENTS.name])
        on_started()
        await app.wait(stop.wait())
    finally:
        await _stop(app, settings)
    if app.crash_reason is not None:
        raise Fatal(f"the windows worker crashed ({type(app.crash_reason).__name__})") from app.crash_reason


async def _start(app: Any, settings: WindowsSettings) -> None:
    try:
        async with asyncio.timeout(settings.start_seconds_max):
            await app.start()
    except TimeoutError as error:
        raise Retryable("the windows worker was not up in time") from error


async def _stop(app: Any, settings: WindowsSettings) -> None:
    try:
        async with asyncio.timeout(settings.stop_seconds_max):
            await app.stop()
    except TimeoutError:
        _log.warning("windows_stop_timed_out", seconds=settings.stop_seconds_max)
