"""Structured logs on standard error: JSON for machines, one coloured line for a person at a terminal."""

import logging
import sys

import structlog
from structlog.typing import Processor

LEVELS = ("debug", "info", "warning", "error")


def configure_logging(process: str, level: str, *, as_json: bool) -> None:
    """Send structlog and the standard library's logs of this process to standard error, in one format.

    ``level`` is one of LEVELS. Every line carries ``process``, a time in UTC and the event's name.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: Processor = structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(_number(level)),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(_number(level))
    _quieten_libraries()
    structlog.contextvars.bind_contextvars(process=process)


def _number(level: str) -> int:
    return logging.getLevelNamesMapping()[level.upper()]


def _quieten_libraries() -> None:
    # These report every reconnect at several levels; our own events say what matters, with the stage's name.
    for name in ("aiokafka", "cassandra", "kafka", "uvicorn", "faust", "mode", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("aiokafka.consumer.group_coordinator").setLevel(logging.ERROR)
