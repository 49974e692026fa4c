"""Tables that are changed by the batch: a key's changes in one record of the changelog, written with all others.

Faust's own way, a record for each change whose arrival nobody awaits, needs the event that is being handled to know its
partition, and costs more than counting does. Restoring is Faust's, and the changelog's format too.
"""

import json
from collections.abc import Iterator
from typing import Any

import faust
from pydantic_core import to_json

from stream_processors.windows.faust_records import Write


class BatchTable(faust.Table):  # type: ignore[misc]
    """A table in memory, with a changelog of JSON. Use ``known``, ``put`` and ``drop``, not the dictionary."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """As Faust's."""
        super().__init__(*arguments, **options)
        self._changes: dict[tuple[int, str], Any] = {}

    def known(self, key: str) -> Any:
        """The value of a key, None for an unknown one."""
        return self.data.data.get(key)

    def put(self, partition: int, key: str, value: Any) -> None:
        """Set a key of a partition."""
        self.data.data[key] = value
        self._changes[partition, key] = value

    def drop(self, partition: int, key: str) -> None:
        """Forget a key of a partition."""
        if self.data.data.pop(key, None) is not None:
            self._changes[partition, key] = None

    def take_changes(self) -> Iterator[Write]:
        """What changed since the last call, for the changelog; a dropped key has no value."""
        changes, self._changes = self._changes, {}
        topic = self.changelog_topic.get_topic_name()
        for (partition, key), value in changes.items():
            # The same JSON as Faust's, which takes four times as long to write a value.
            written = None if value is None else to_json(value)
            yield Write(topic, json.dumps(key).encode(), written, (), partition)
