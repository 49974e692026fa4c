"""What the commands `up`, `down`, `status` and `logs` do; each returns the exit code of the process."""

from __future__ import annotations

import contextlib
import functools
import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, ParamSpec

import typer
from pydantic import ValidationError
from rich.console import Console

from turnstream.local_stack import control, logfiles
from turnstream.local_stack.errors import ExitCode, NotRunningError, StackError
from turnstream.local_stack.layout import Layout
from turnstream.local_stack.plan import SERVERS, StackOptions
from turnstream.local_stack.progress import StartDisplay, status_table
from turnstream.local_stack.settings import StackSettings
from turnstream.local_stack.stack import Stack, provision
from turnstream.local_stack.state import RunRecord

_FOLLOW_POLL_S: Final = 0.2
_DEMO_QUESTION: Final = {
    "model": "turnstream-fast",
    "stream": True,
    "messages": [{"role": "user", "content": "What is an event log?"}],
}
_Arguments = ParamSpec("_Arguments")


def _one_line_errors(command: Callable[_Arguments, ExitCode]) -> Callable[_Arguments, ExitCode]:
    """Turn a `StackError` into one line on stderr, below the failing part's last log lines, and its exit code."""

    @functools.wraps(command)
    def wrapped(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> ExitCode:
        try:
            return command(*args, **kwargs)
        except StackError as error:
            for line in error.log_lines:
                typer.echo(f"  | {line}", err=True)
            typer.echo(f"error: {error.message}", err=True)
            return error.code

    return wrapped


@_one_line_errors
def up(only: str, *, no_processes: bool, detach: bool) -> ExitCode:
    """Start the stack and say how to use it; keep it running until it is asked to stop unless `detach`."""
    settings = read_settings()
    options = options_of(only, no_processes=no_processes)
    control.refuse_if_running(settings.layout())
    if detach:
        arguments = (f"--only={only}",) if only else ("--no-processes",) if no_processes else ()
        typer.echo(ready_text(_start_detached(settings, options, arguments), stop="turnstream down"))
    else:
        _run_in_foreground(settings, options, lambda record: ready_text(record, stop="Ctrl-C, or turnstream down"))
    return ExitCode.OK


@_one_line_errors
def supervise(only: str, *, no_processes: bool) -> ExitCode:
    """Do what `up` does, for a background start: its output is a log, so it never shows the key."""
    _run_in_foreground(read_settings(), options_of(only, no_processes=no_processes), lambda _: "ready")
    return ExitCode.OK


@_one_line_errors
def down(*, wipe: bool) -> ExitCode:
    """Stop the run; with `wipe`, which needs no run, remove its data as well."""
    layout = read_settings().layout()
    try:
        control.stop_run(layout)
        typer.echo("stopped")
    except NotRunningError:
        if not wipe:
            raise
    if wipe:
        control.wipe(layout)
        typer.echo("data removed")
    return ExitCode.OK


@_one_line_errors
def status(*, as_json: bool) -> ExitCode:
    """Print the state of every part."""
    record = control.live_run(read_settings().layout())
    if as_json:
        typer.echo(record.model_dump_json(indent=2))
    else:
        Console().print(status_table(record, time.time()))
    return ExitCode.OK if record.all_ready else ExitCode.NOT_READY


@_one_line_errors
def logs(part: str, *, follow: bool, lines: int) -> ExitCode:
    """Print the last `lines` of one part's log, or of all, and with `follow` what comes after."""
    chosen = _chosen_logs(read_settings().layout(), part)
    width = max(map(len, chosen))
    with contextlib.suppress(KeyboardInterrupt):
        for name, log in chosen.items():
            for line in logfiles.tail(log, lines):
                typer.echo(f"{name:<{width}} | {line}")
        if follow:
            for name, line in logfiles.follow(chosen, lambda: time.sleep(_FOLLOW_POLL_S)):
                typer.echo(f"{name:<{width}} | {line}")
    return ExitCode.OK


def read_settings() -> StackSettings:
    """Read the settings. Raises `StackError` that names the variable which is wrong."""
    try:
        return StackSettings()
    except ValidationError as error:
        problem = error.errors()[0]
        name = str(problem["loc"][0])
        variable = name if name.isupper() else f"TURNSTREAM_STACK__{name.upper()}"
        message = f"{variable}: {problem['msg']}"
        raise StackError(message) from error


def options_of(only: str, *, no_processes: bool) -> StackOptions:
    """Return what to run: the servers of the comma-separated list `only`, or all four; then our processes or not."""
    if only:
        servers = tuple(name.strip() for name in only.split(",") if name.strip())
        return StackOptions(servers=servers, processes=(), bootstrap=None)
    return StackOptions(servers=SERVERS, processes=(), bootstrap=None) if no_processes else StackOptions()


def ready_text(record: RunRecord, stop: str) -> str:
    """Return what to tell the user about a run that is ready: where it is, how to try it, how to `stop` it."""
    lines = [*record.notes, "", "Turnstream is ready." if record.base_url else "The servers are ready.", ""]
    if record.base_url:
        lines += [f"  base URL  {record.base_url}", f"  API key   {record.key or '(none was made)'}"]
    else:
        lines += [f"  export {name}='{value}'" for name, value in record.environment.items()]
    lines += ["  status    turnstream status", f"  stop      {stop}"]
    if record.base_url:
        lines += ["", _curl(record.base_url, record.key or "$TURNSTREAM_KEY")]
    return "\n".join(lines)


def _curl(base_url: str, key: str) -> str:
    return (
        f"curl -N {base_url}/chat/completions \\\n"
        f"  -H 'Authorization: Bearer {key}' \\\n"
        f"  -H 'Content-Type: application/json' \\\n"
        f"  -d '{json.dumps(_DEMO_QUESTION)}'"
    )


def _start_detached(settings: StackSettings, options: StackOptions, arguments: tuple[str, ...]) -> RunRecord:
    layout = settings.layout()
    layout.create()
    with StartDisplay(Console()) as display:
        # Here and not in the background, so that the progress is seen and Ctrl-C ends it.
        provision(settings, options, display.observer)
        return control.start_detached(layout, arguments, display.on_record)


def _run_in_foreground(
    settings: StackSettings, options: StackOptions, announcement: Callable[[RunRecord], str]
) -> None:
    with StartDisplay(Console()) as display:
        stack = Stack(settings, options, display.observer)
        _stop_on_signals(stack)
        record = stack.start()
    typer.echo(announcement(record))
    try:
        stack.wait()
    finally:
        stack.stop()
    typer.echo("stopped")


def _stop_on_signals(stack: Stack) -> None:
    def on_signal(_number: int, _frame: object) -> None:
        stack.ask_to_stop()
        if not stack.is_supervising:
            raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, on_signal)


def _chosen_logs(layout: Layout, part: str) -> dict[str, Path]:
    found = {log.stem: log for log in sorted(layout.logs.glob("*.log"))}
    if not found:
        message = f"no logs yet in {layout.logs}"
        raise StackError(message)
    if part and part not in found:
        message = f"no log of {part!r}: there are {', '.join(found)}"
        raise StackError(message)
    return {part: found[part]} if part else found
