"""What a line of our logs looks like, whoever writes it."""

import io
import json
import logging
import re
import sys
from collections.abc import Callable
from pathlib import PurePosixPath

import pytest
import structlog

from turnstream.telemetry.logging import configure_logging

pytestmark = pytest.mark.usefixtures("logging_of_before")

Configure = Callable[..., io.StringIO]


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> Configure:
    """Configures logging, and gives the standard error of the rest of the test."""

    def configure(level: str = "info", *, as_json: bool = True) -> io.StringIO:
        stream = io.StringIO()
        # Here, not at once: pytest takes standard error between a fixture and its test.
        monkeypatch.setattr(sys, "stderr", stream)
        configure_logging("edge", level, as_json=as_json)
        return stream

    return configure


def shape(stream: io.StringIO) -> str:
    return re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", "NOW", stream.getvalue())


def test_a_line_of_ours(configured: Configure) -> None:
    written = configured()
    structlog.get_logger("ours").info("turn_submitted", turn_id="é\ud800", stored=False, seconds=1.5, none=None)
    assert shape(written) == (
        '{"turn_id": "\\u00e9\\ud800", "stored": false, "seconds": 1.5, "none": null, "event": "turn_submitted", '
        '"process": "edge", "level": "info", "timestamp": "NOW"}\n'
    )


def test_a_line_of_a_library(configured: Configure) -> None:
    written = configured()
    logging.getLogger("library").warning("hello %s", 1)
    assert shape(written) == '{"event": "hello 1", "process": "edge", "level": "warning", "timestamp": "NOW"}\n'


def test_what_json_does_not_know_is_shown_as_python_does(configured: Configure) -> None:
    written = configured()
    structlog.get_logger("ours").warning("odd", path=PurePosixPath("/x"), error=ValueError("a"))
    line = json.loads(written.getvalue())
    assert (line["path"], line["error"]) == ("PurePosixPath('/x')", "ValueError('a')")


def test_levels_below_the_configured_one_are_silent(configured: Configure) -> None:
    written = configured("warning")
    structlog.get_logger("ours").info("quiet")
    logging.getLogger("library").info("quiet")
    logging.getLogger("aiokafka").info("quiet")
    assert written.getvalue() == ""


@pytest.mark.parametrize("logger", ["ours", "library"])
def test_exceptions_are_told(configured: Configure, logger: str) -> None:
    written = configured()
    log = structlog.get_logger(logger) if logger == "ours" else logging.getLogger(logger)
    log.error("bad", exc_info=KeyError(logger))
    line = json.loads(written.getvalue())
    assert line["exception"].startswith("KeyError: ")
    assert "exc_info" not in line


def test_a_person_at_a_terminal_gets_no_json(configured: Configure) -> None:
    written = configured(as_json=False)
    structlog.get_logger("ours").info("turn_submitted", turn_id="t")
    logging.getLogger("library").warning("hello")
    ours, theirs = written.getvalue().splitlines()
    assert "turn_submitted" in ours
    assert "hello" in theirs
    assert "{" not in ours


def test_a_log_that_nobody_takes_ends_nothing(configured: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(_text: str) -> int:
        raise BrokenPipeError

    monkeypatch.setattr(configured(), "write", write)
    structlog.get_logger("ours").info("turn_submitted")
    logging.getLogger("library").warning("hello")


def test_a_log_that_is_closed_ends_nothing(configured: Configure) -> None:
    configured().close()
    structlog.get_logger("ours").info("turn_submitted")
