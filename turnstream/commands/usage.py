"""``turnstream usage``: what the usage files say."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Final, Literal

import typer
from rich.console import Console

from producers.replay.times import parse_time_ms
from schemas.errors import Fatal, Malformed
from turnstream.clocks import now_ms
from turnstream.commands.exits import Exit, fail
from turnstream.commands.running_stack import require_settings
from turnstream.usage_reports import queries
from turnstream.usage_reports.queries import CostBy, LatencyBy, TurnsBy, Within

_TIME: Final = "2026-11-21, 2026-11-21T14:00:00Z, or 7d for seven days ago"


Format = Literal["table", "json", "csv"]

Since = Annotated[str | None, typer.Option("--since", help=f"Turns submitted from this time on: {_TIME}.")]
Until = Annotated[str | None, typer.Option("--until", help="Turns submitted before this time.")]
Lake = Annotated[str | None, typer.Option("--lake", help="Folder or fsspec URL; else TURNSTREAM_USAGE_SINK__URL.")]
As = Annotated[Format, typer.Option("--format", help="How to print the answer.")]
ShowSql = Annotated[bool, typer.Option("--show-sql", help="Print the SQL for DuckDB and do not run it.")]


def register(app: typer.Typer) -> None:
    """Add the ``usage`` commands to ``app``."""
    usage = typer.Typer(no_args_is_help=True, help="Ask the usage files: cost, users, latency, turns, or any SQL.")
    for name, command in (
        ("cost", cost),
        ("top-users", top_users),
        ("latency", latency),
        ("turns", turns),
        ("sql", sql),
    ):
        usage.command(name=name)(command)
    app.add_typer(usage, name="usage")


def cost(
    *,
    by: Annotated[CostBy, typer.Option("--by")] = "tenant",
    since: Since = None,
    until: Until = None,
    lake: Lake = None,
    form: As = "table",
    show_sql: ShowSql = False,
) -> None:
    """Show what turns cost. Exit code 4: there are no usage files."""
    _answer(queries.cost(by, _within(since, until)), lake, form, show_sql=show_sql)


def top_users(
    *,
    limit: Annotated[int, typer.Option("--limit", min=1)] = 20,
    since: Since = None,
    until: Until = None,
    lake: Lake = None,
    form: As = "table",
    show_sql: ShowSql = False,
) -> None:
    """Show who costs most. Exit code 4: there are no usage files."""
    _answer(queries.top_users(limit, _within(since, until)), lake, form, show_sql=show_sql)


def latency(
    *,
    by: Annotated[LatencyBy, typer.Option("--by")] = "model",
    since: Since = None,
    until: Until = None,
    lake: Lake = None,
    form: As = "table",
    show_sql: ShowSql = False,
) -> None:
    """Show percentiles of the time to the first token and to the end. Exit code 4: there are no usage files."""
    _answer(queries.latency(by, _within(since, until)), lake, form, show_sql=show_sql)


def turns(
    *,
    by: Annotated[TurnsBy, typer.Option("--by")] = "finish_reason",
    since: Since = None,
    until: Until = None,
    lake: Lake = None,
    form: As = "table",
    show_sql: ShowSql = False,
) -> None:
    """Show how turns ended. Exit code 4: there are no usage files."""
    _answer(queries.turns(by, _within(since, until)), lake, form, show_sql=show_sql)


def sql(
    query: Annotated[str, typer.Argument(help="One query over the views `usage` (a row per turn) and `usage_rows`.")],
    *,
    lake: Lake = None,
    form: As = "table",
) -> None:
    """Run a query of your own. Exit codes: 2 DuckDB does not take it, 4 there are no usage files."""
    _answer(query, lake, form, show_sql=False)


def _within(since: str | None, until: str | None) -> Within:
    moment_ms = now_ms()
    try:
        within = Within(*(None if each is None else parse_time_ms(each, moment_ms) for each in (since, until)))
    except ValueError as error:
        fail(str(error), Exit.BAD_INPUT)
    if within.since_ms is not None and within.until_ms is not None and within.until_ms <= within.since_ms:
        fail("--until must be after --since", Exit.BAD_INPUT)
    return within


def _answer(query: str, lake: str | None, form: Format, *, show_sql: bool) -> None:
    settings = require_settings().usage_sink
    url = lake or settings.url
    if url is None:
        fail(
            "where are the usage files? start the local stack (`turnstream up`), "
            "or name their folder or URL by --lake or TURNSTREAM_USAGE_SINK__URL",
            Exit.BAD_INPUT,
        )
    try:
        from turnstream.usage_reports import printing, reading  # noqa: PLC0415 - come with the extra `usage`
    except ModuleNotFoundError as missing:
        fail(f"{missing.name} is missing: install the extra `turnstream[usage]`")
    try:
        if show_sql:
            typer.echo(f"{reading.make_views(url, settings.options)}\n\n{query};")
            return
        with _progress():
            answer = reading.UsageFiles(url, settings.options).ask(query)
    except reading.NoFiles:
        wait = f"a file is written {settings.file_seconds_max:g} s after its first turn at the latest"
        fail(f"no usage files at {url}; {wait}", Exit.NOT_FOUND)
    except Malformed as error:
        fail(f"DuckDB: {error}", Exit.BAD_INPUT)
    except Fatal as error:
        fail(str(error))
    if form == "table":
        Console().print(printing.as_table(answer))
    else:
        typer.echo(printing.as_json(answer) if form == "json" else printing.as_csv(answer))


@contextmanager
def _progress() -> Iterator[None]:
    """A sign of life on a terminal; DuckDB says nothing of how far it is."""
    if not sys.stderr.isatty():
        yield
        return
    with Console(stderr=True).status("reading the usage files"):
        yield
