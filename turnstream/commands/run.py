"""``turnstream run <process>``: one process of the pipeline, in the foreground."""

from collections.abc import Callable
from typing import Annotated, NoReturn

import typer

from schemas.errors import Fatal
from turnstream.commands.exits import fail
from turnstream.settings import load_settings
from turnstream.wiring.process import Work, run_process

Only = Annotated[str, typer.Option("--only", help="Comma-separated names; all when left out.")]


def register(app: typer.Typer) -> None:
    """Add the ``run`` commands to ``app``."""
    run = typer.Typer(no_args_is_help=True, help="Run one process of the pipeline.")
    for command in (edge, processors, inference, sink, usage_sink, windows):
        run.command()(command)
    app.add_typer(run, name="run")


def edge() -> None:
    """Serve clients: HTTP in, answers out."""

    def work() -> Work:
        from turnstream.wiring.edge import run_edge  # noqa: PLC0415 - comes with the extra `edge`

        return run_edge

    _run("edge", work)


def processors(only: Only = "") -> None:
    """Run the stateless stages: auth, rate_limit, rate_limit_settle, prompt, moderation."""

    def work() -> Work:
        from turnstream.wiring.processors import choose_rows, run_processors  # noqa: PLC0415 - extra `processors`

        rows = choose_rows(_names(only))
        return lambda process: run_processors(process, rows)

    _run("processors", work)


def inference(
    only: Annotated[str, typer.Option("--only", help="Comma-separated pools; all when left out.")] = "",
) -> None:
    """Answer turns with the configured model servers."""

    def work() -> Work:
        from turnstream.wiring.inference import choose_pools, run_inference  # noqa: PLC0415 - extra `inference`

        return lambda process: run_inference(process, choose_pools(process.settings, _names(only)))

    _run("inference", work)


def sink() -> None:
    """Store answers in Cassandra and keep hot contexts."""

    def work() -> Work:
        from turnstream.wiring.sink import run_cassandra_sink  # noqa: PLC0415 - comes with the extra `sink`

        return run_cassandra_sink

    _run("sink", work)


def usage_sink() -> None:
    """Write usage as Parquet files, to a folder or an object store."""

    def work() -> Work:
        from turnstream.wiring.usage_sink import run_usage_sink  # noqa: PLC0415 - comes with the extra `usage`

        return run_usage_sink

    _run("usage-sink", work, extra="usage")


def windows() -> None:
    """Roll usage up by user, model and minute (Faust)."""

    def work() -> Work:
        from turnstream.wiring.windows import run_windows  # noqa: PLC0415 - comes with the extra `windows`

        return run_windows

    _run("windows", work)


def _run(name: str, make_work: Callable[[], Work], extra: str | None = None) -> NoReturn:
    try:
        settings, work = load_settings(), make_work()
    except Fatal as error:
        fail(str(error))
    except ModuleNotFoundError as missing:
        fail(f"{missing.name} is missing: install the extra `turnstream[{extra or name}]`")
    raise typer.Exit(run_process(name, settings, work))


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())
