"""All that is left of a run: every record of every topic, every row of Cassandra."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.support.topic_scan import LogRecord


@dataclass(frozen=True)
class Dump:
    """``tables`` has the rows of ``messages``, ``turns`` and ``conversations`` by column."""

    records: Sequence[LogRecord]
    tables: Mapping[str, Sequence[Mapping[str, Any]]]
