"""`turnstream up`, `down`, `status`, `logs`: the embedded development stack on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from types import ModuleType

Only = Annotated[str, typer.Option(help="Start just these servers: kafka,cassandra,redis,triton.")]
NoProcesses = Annotated[bool, typer.Option("--no-processes", help="Start the four servers and nothing of ours.")]
Detach = Annotated[bool, typer.Option("--detach", "-d", help="Return when it is ready, leave it in the background.")]
Wipe = Annotated[bool, typer.Option("--wipe", help="Remove all data, too.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the run's record as JSON.")]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is written from now on.")]
Lines = Annotated[int, typer.Option("--lines", "-n", min=1, help="How many lines of each log.")]
LogName = Annotated[str, typer.Argument(help="One part, such as kafka or edge; all of them when left out.")]


def register(app: typer.Typer) -> None:
    """Add the commands of the local stack to the command line."""
    app.command()(up)
    app.command()(down)
    app.command()(status)
    app.command()(logs)


def up(*, only: Only = "", no_processes: NoProcesses = False, detach: Detach = False) -> None:
    """Start Kafka, Cassandra, Redis, Triton and Turnstream on this machine, until Ctrl-C or `turnstream down`.

    Exit codes: 1 failed, 4 already running, 5 a port that you asked for is taken, 6 a part did not get ready,
    7 a download or a program is missing.
    """
    raise typer.Exit(_front_end().up(only, no_processes=no_processes, detach=detach))


def down(*, wipe: Wipe = False) -> None:
    """Stop what `up` started, and return when none of its processes is left. Exit code 3: nothing was running."""
    raise typer.Exit(_front_end().down(wipe=wipe))


def status(*, as_json: AsJson = False) -> None:
    """Show every part. Exit codes: 0 all are ready, 3 not running, 6 running, but not all are ready."""
    raise typer.Exit(_front_end().status(as_json=as_json))


def logs(part: LogName = "", *, follow: Follow = False, lines: Lines = 40) -> None:
    """Show the last lines of the logs, each with the name of its part."""
    raise typer.Exit(_front_end().logs(part, follow=follow, lines=lines))


def _front_end() -> ModuleType:
    # The stack comes with an extra: a server without it needs the other commands, and `--help` need not wait for it.
    try:
        from turnstream.local_stack import front_end  # noqa: PLC0415
    except ImportError as error:
        typer.echo(f"error: {error.name} is missing: install the extra `turnstream[local]`", err=True)
        raise typer.Exit(1) from error
    return front_end
