"""Where the Turnstream is that a command talks to: told by the environment, else the local stack that runs here."""

import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NoReturn

from schemas.errors import Fatal
from turnstream.commands.exits import Exit, fail
from turnstream.settings import Settings, load_settings
from turnstream.telemetry.logging import configure_logging

BASE_URL: Final = "TURNSTREAM_BASE_URL"
API_KEY: Final = "TURNSTREAM_API_KEY"
# How the stack names the metrics port of a process.
_METRICS: Final = "-metrics"


@dataclass(frozen=True, slots=True, repr=False)
class LocalRun:
    """What the live local stack says about itself; ``metrics`` are the addresses of its processes' metrics by name."""

    base_url: str | None
    api_key: str | None
    environment: Mapping[str, str]
    metrics: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, repr=False)
class Connection:
    """An edge and a key for it. ``base_url`` ends in ``/v1``."""

    base_url: str
    api_key: str


def find_connection(environ: Mapping[str, str], run: LocalRun | None) -> Connection | None:
    """The edge to talk to; what ``environ`` names wins over the local stack. None when neither is complete."""
    base_url = environ.get(BASE_URL) or (run.base_url if run else None)
    api_key = environ.get(API_KEY) or (run.api_key if run else None)
    return Connection(base_url.rstrip("/"), api_key) if base_url and api_key else None


def require_connection() -> Connection:
    """The edge to talk to. Ends the command when there is none."""
    connection = find_connection(os.environ, local_run())
    if connection is None:
        fail(f"nothing runs here: `turnstream up` starts it, or set {BASE_URL} and {API_KEY}", Exit.NOT_RUNNING)
    return connection


def require_settings() -> Settings:
    """The settings of a process beside the running stack. Ends the command when a variable is wrong."""
    _quieten()
    run = local_run()
    for name, value in (run.environment if run else {}).items():
        os.environ.setdefault(name, value)
    try:
        return load_settings()
    except Fatal as error:
        fail(str(error), Exit.BAD_INPUT)


def fail_unreachable(message: str) -> NoReturn:
    """End the command because what it needs does not answer; says so if the local stack is not running."""
    hint = "" if local_run() is not None else "; nothing runs here: `turnstream up` starts it"
    fail(f"{message}{hint}", Exit.NOT_RUNNING)


def _quieten() -> None:
    """Standard output is the command's answer, and of a failure it prints one line itself."""
    configure_logging("turnstream", "error", as_json=not sys.stderr.isatty())
    for name in ("aiokafka", "cassandra", "opentelemetry"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def local_run() -> LocalRun | None:
    """The live local stack of this checkout, or None; also None where its extra is not installed."""
    try:
        from turnstream.local_stack import state  # noqa: PLC0415  # comes with the extra `local`
        from turnstream.local_stack.settings import StackSettings  # noqa: PLC0415
    except ModuleNotFoundError:
        return None
    record = state.read(StackSettings().layout().state_file)
    if record is None or not state.is_alive(record):
        return None
    ends = ((name.removesuffix(_METRICS), port) for name, port in record.ports.items() if name.endswith(_METRICS))
    metrics = {name: f"http://127.0.0.1:{port}/metrics" for name, port in ends}
    return LocalRun(record.base_url, record.key, record.environment, metrics)
