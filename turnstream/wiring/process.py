"""The life of one process of ours: logs, metrics and probes, the work, an orderly stop."""

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import structlog

from schemas.errors import Fatal, Retryable
from turnstream.exception_groups import leaves
from turnstream.http_server import ServerSettings, open_listener, serve
from turnstream.settings import Settings
from turnstream.telemetry.logging import configure_logging
from turnstream.telemetry.probe_app import ProbeApp
from turnstream.telemetry.prometheus import PrometheusMetrics
from turnstream.telemetry.readiness import Readiness
from turnstream.unknown_variables import unknown_variables

EXIT_FAILED: Final = 1
OPEN_FILES_MAX: Final = 65_536
COLLECTOR_THRESHOLDS: Final = (100_000, 50, 100)

_log = structlog.get_logger(__name__)


@dataclass
class Process:
    """What every process has; its work takes what it needs from here."""

    name: str
    settings: Settings
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    metrics: PrometheusMetrics = field(default_factory=PrometheusMetrics)
    readiness: Readiness = field(default_factory=Readiness)


Work = Callable[[Process], Awaitable[None]]


def run_process(name: str, settings: Settings, work: Work) -> int:
    """Run ``work`` on uvloop until it ends or SIGTERM or SIGINT asks it to; returns the exit code.

    A Fatal, or a Retryable that nobody could retry, ends the process with code 1 and one log line: the
    supervisor starts a fresh one.
    """
    start_log(name, settings)
    failures: list[BaseException] = []
    _tune_collector()
    allow_open_files()
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_live(Process(name, settings), work))
    except* (Fatal, Retryable, OSError) as group:
        failures = leaves(group)
    for error in failures:
        _log.error("process_failed", error=f"{type(error).__name__}: {error}")
    return EXIT_FAILED if failures else 0


def start_log(name: str, settings: Settings) -> None:
    """Begin the log of a process, with what was set for it that no process reads."""
    configure_logging(name, settings.log.level, as_json=settings.log.json_lines or not sys.stderr.isatty())
    for variable in unknown_variables(os.environ):
        _log.warning("variable_unknown", variable=variable.name, nearest=variable.nearest)


async def _live(process: Process, work: Work) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, process.stop.set)
    _log.info("process_started")
    async with asyncio.TaskGroup() as tasks:
        probes = tasks.create_task(_serve_probes(process))
        try:
            await work(process)
        finally:
            process.stop.set()
            await asyncio.wait((probes,))
    _log.info("process_stopped")


async def _serve_probes(process: Process) -> None:
    settings = process.settings.metrics
    if settings.port is None:
        return
    server = ServerSettings(host=settings.host, port=settings.port)
    app = ProbeApp(process.metrics, process.readiness)
    await serve(app, open_listener(server), server, process.stop, _nothing_to_drain)


async def _nothing_to_drain() -> None:
    return


def _tune_collector() -> None:
    # Events live for milliseconds and hold no cycles, but by their number they make the collector walk everything
    # that was ever imported again and again. Frozen, that is left out; the rest is walked less often.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTOR_THRESHOLDS)


def allow_open_files() -> None:
    """As many open files as this user may have: each stream is one, and many shells begin with 1,024."""
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415 - POSIX only

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES_MAX if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES_MAX)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if sys.platform == "win32":
        return None
    import uvloop  # noqa: PLC0415 - has no build for Windows

    return uvloop.new_event_loop
