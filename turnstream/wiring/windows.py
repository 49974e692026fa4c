"""The windows process: Faust over usage, verdicts and evidence."""

import asyncio

from stream_processors.windows import stage
from turnstream.wiring.process import Process
from turnstream.wiring.topics import require_all_topics


async def run_windows(process: Process) -> None:
    """Roll usage up and watch for abuse until asked to stop."""
    settings = process.settings
    await require_all_topics(settings)
    servers = tuple(settings.kafka.bootstrap_servers.split(","))
    started = asyncio.Event()
    process.readiness.require("windows:started", started.is_set)
    windows = settings.windows.model_copy(update={"bootstrap_servers": servers})
    await stage.run(windows, process.stop, process.metrics, started.set)
