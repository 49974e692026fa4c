"""``turnstream top``: what the pipeline does now, on one screen."""

import asyncio
import sys
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from typing import Annotated, Final

import httpx2
import typer
from rich.console import Console
from rich.live import Live

from schemas.errors import Fatal, Retryable
from turnstream.commands.exits import Exit, fail
from turnstream.commands.running_stack import local_run, require_settings
from turnstream.exception_groups import leaves
from turnstream.insight.lag import LagReport
from turnstream.insight.lag_reading import LagReader
from turnstream.insight.overview import Overview, build_overview
from turnstream.insight.scrape import take_sample
from turnstream.insight.top_screen import render_overview
from turnstream.log.kafka_log_reader import KafkaLogReader
from turnstream.settings import Settings

INTERVAL_SECONDS: Final = 2.0

Once = Annotated[bool, typer.Option("--once", help="Show one screen and end.")]
AsJson = Annotated[bool, typer.Option("--json", help="One line of JSON per screen.")]
Interval = Annotated[float, typer.Option("--interval", min=0.1, max=60, help="Seconds between two screens.")]
Urls = Annotated[
    list[str] | None, typer.Option("--url", help="A process elsewhere: http://HOST:PORT/metrics, or NAME=URL.")
]


def register(app: typer.Typer) -> None:
    """Add the ``top`` command to ``app``."""
    app.command()(top)


def top(
    *, once: Once = False, as_json: AsJson = False, interval: Interval = INTERVAL_SECONDS, url: Urls = None
) -> None:
    """Show rates, waits, lag and errors live, by stage and pool. Ctrl-C ends it. Exit code 3: nothing answers."""
    urls = metrics_urls(url or ())
    settings = require_settings()
    if not urls:
        fail("nothing runs here: `turnstream up` starts it, or name the processes with --url", Exit.NOT_RUNNING)
    # A live screen is for a terminal; what is piped gets lines.
    lines = as_json or not (once or sys.stdout.isatty())
    try:
        asyncio.run(_watch(settings, urls, interval, once=once, as_json=lines))
    except KeyboardInterrupt:
        return


def metrics_urls(given: Sequence[str]) -> dict[str, str]:
    """Where each process tells of itself: those that are given, else those of the local stack."""
    if not given:
        run = local_run()
        return dict(run.metrics) if run else {}
    named = (one.partition("=") if "=" in one.partition("://")[0] else (one, "", one) for one in given)
    return {name.removeprefix("http://").removesuffix("/metrics"): url for name, _, url in named}


async def _watch(settings: Settings, urls: Mapping[str, str], interval_s: float, *, once: bool, as_json: bool) -> None:
    async with aclosing(overviews(settings, urls, interval_s)) as screens:
        if not (once or as_json):
            with Live(console=Console(), screen=True, auto_refresh=False) as live:
                async for overview in screens:
                    live.update(render_overview(overview), refresh=True)
        async for overview in screens:
            if as_json:
                typer.echo(overview.model_dump_json())
            else:
                Console().print(render_overview(overview))
            if once:
                _require_answers(overview)
                return


def _require_answers(overview: Overview) -> None:
    if not any(process.answers for process in overview.processes):
        fail("no process answers", Exit.NOT_RUNNING)


async def overviews(settings: Settings, urls: Mapping[str, str], interval_s: float) -> AsyncGenerator[Overview, None]:
    """A view every ``interval_s`` seconds, each over the time since the one before; for ever."""
    async with AsyncExitStack() as opened, httpx2.AsyncClient() as client:
        lag = _Lag(settings, opened)
        before = await take_sample(urls, client, time.monotonic)
        while True:
            await asyncio.sleep(interval_s)
            after, report = await asyncio.gather(take_sample(urls, client, time.monotonic), lag.read())
            yield build_overview(before, after, report, lag.problem)
            before = after


class _Lag:
    """The lag over one connection, made when the broker answers."""

    def __init__(self, settings: Settings, opened: AsyncExitStack) -> None:
        self._settings = settings
        self._opened = opened
        self._reader: LagReader | None = None
        self.problem: str | None = None

    async def read(self) -> LagReport | None:
        """The report, or None with a ``problem``."""
        report: LagReport | None = None
        self.problem = None
        try:
            if self._reader is None:
                reader = await self._opened.enter_async_context(KafkaLogReader(self._settings.kafka))
                self._reader = LagReader(self._settings, reader)
            report = await self._reader.read()
        except* (Retryable, Fatal) as group:
            self.problem = str(leaves(group)[0])
        return report
