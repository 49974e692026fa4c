"""What the bodies of requests and answers are built of (https://kafka.apache.org/protocol#protocol_types)."""

import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

from schemas.ports import TopicPartition

_INT16: Final = struct.Struct(">h")
_INT32: Final = struct.Struct(">i")
_T = TypeVar("_T")


def string(text: str) -> bytes:
    """A STRING."""
    data = text.encode()
    return _INT16.pack(len(data)) + data


def by_topic(parts: Iterable[tuple[TopicPartition, bytes]]) -> bytes:
    """An ARRAY of topics with an ARRAY of partitions each; a part is what a partition's entry holds, number and all."""
    topics: dict[str, list[bytes]] = {}
    for (topic, _number), entry in parts:
        topics.setdefault(topic, []).append(entry)
    out = [_INT32.pack(len(topics))]
    for topic, entries in topics.items():
        out += (string(topic), _INT32.pack(len(entries)), *entries)
    return b"".join(out)


class Answer:
    """The body of an answer, read from its beginning to its end."""

    def __init__(self, body: bytes, position: int = 0) -> None:
        self._body = body
        self.position = position

    def take(self, layout: struct.Struct) -> tuple[int, ...]:
        """The next fields, of fixed size."""
        found = layout.unpack_from(self._body, self.position)
        self.position += layout.size
        return found

    def data(self, size: int) -> bytes:
        """The next ``size`` bytes."""
        start = self.position
        self.position += size
        return self._body[start : self.position]

    def partitions(self, entry: Callable[["Answer", str], _T]) -> Iterator[_T]:
        """What ``entry`` reads of each partition of an ARRAY of topics."""
        (topics,) = self.take(_INT32)
        for _ in range(topics):
            (size,) = self.take(_INT16)
            topic = self.data(size).decode()
            (count,) = self.take(_INT32)
            for _ in range(count):
                yield entry(self, topic)
