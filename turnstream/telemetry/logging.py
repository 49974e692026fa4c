"""Structured logs on standard error: JSON for machines, one coloured line for a person at a terminal."""

import json
import logging
import sys
from collections.abc import Mapping
from typing import Any, Final

import structlog
from structlog.typing import EventDict, Processor

LEVELS = ("debug", "info", "warning", "error")

_JSON: Final = json.JSONEncoder(default=repr)


def configure_logging(process: str, level: str, *, as_json: bool) -> None:
    """Send structlog and the standard library's logs of this process to standard error, in one format.

    ``level`` is one of LEVELS. Every line carries ``process``, a time in UTC and the event's name.
    """
    stamps: list[Processor] = [
        _Named(process),
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendering: list[Processor] = [
        structlog.processors.format_exc_info,
        _as_json if as_json else structlog.dev.ConsoleRenderer(),
    ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=stamps,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    lines = _Lines(handler)
    structlog.configure(
        processors=[*stamps, *rendering],
        logger_factory=lambda *_: lines,
        wrapper_class=structlog.make_filtering_bound_logger(_number(level)),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(_number(level))
    _quieten_libraries()


class _Lines:
    """structlog's last step. Our lines go past the standard library, which takes three times as long for each.

    They share the stream of ``handler``, and its lock, with the lines of libraries.
    """

    def __init__(self, handler: "logging.StreamHandler[Any]") -> None:
        self._handler = handler

    def write(self, line: str) -> None:
        """Write one line; a log that nobody takes must not end what it tells of."""
        stream = self._handler.stream
        self._handler.acquire()
        try:
            stream.write(line + "\n")
            stream.flush()
        except (OSError, ValueError):
            # It is broken, or closed.
            return
        finally:
            self._handler.release()

    debug = info = warning = error = critical = write


class _Named:
    """Adds the name of the process."""

    def __init__(self, process: str) -> None:
        self._process = process

    def __call__(self, _logger: Any, _method: str, event: EventDict) -> Mapping[str, Any]:
        event.setdefault("process", self._process)
        return event


def _as_json(_logger: Any, _method: str, event: EventDict) -> str:
    return _JSON.encode(event)


def _number(level: str) -> int:
    return logging.getLevelNamesMapping()[level.upper()]


def _quieten_libraries() -> None:
    # These report every reconnect at several levels; our own events say what matters, with the stage's name.
    for name in ("aiokafka", "cassandra", "kafka", "uvicorn", "faust", "mode", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("aiokafka.consumer.group_coordinator").setLevel(logging.ERROR)
