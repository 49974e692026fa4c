"""Standard output has a command's answer alone; what is logged beside it goes to standard error, in JSON when piped."""

import json
import logging
from collections.abc import Sequence

import pytest
import structlog
import typer
from typer.testing import CliRunner

from turnstream.commands import bootstrap, running_stack
from turnstream.settings import Settings
from turnstream.wiring import bootstrap as wiring

pytestmark = pytest.mark.usefixtures("logging_of_before")


def test_bootstrap_logs_to_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async def connects(_settings: Settings, _key: object) -> Sequence[str]:
        structlog.get_logger().info("cassandra_connected")
        return ("chat.tokens.v1",)

    monkeypatch.setattr(wiring, "bootstrap", connects)
    app = typer.Typer()
    bootstrap.register(app)
    result = CliRunner().invoke(app, [])
    assert (result.exit_code, result.stdout) == (0, "topics created: 1\n")
    assert json.loads(result.stderr)["event"] == "cassandra_connected"


def test_libraries_leave_the_one_line_of_a_failure_to_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running_stack, "local_run", lambda: None)
    app = typer.Typer()

    @app.command()
    def fails() -> None:
        running_stack.require_settings()
        for library in ("aiokafka.conn", "cassandra.cluster", "opentelemetry.exporter.otlp"):
            logging.getLogger(library).error("cannot connect")
        logging.getLogger("somebody").error("else")
        running_stack.fail_unreachable("it did not answer")

    line, last = CliRunner().invoke(app, []).stderr.splitlines()
    assert json.loads(line)["event"] == "else"
    assert last == "error: it did not answer; nothing runs here: `turnstream up` starts it"
