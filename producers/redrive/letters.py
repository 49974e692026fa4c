"""Dead letters as records: where they lie, where they came from and why they are dead. Pure."""

from dataclasses import dataclass
from typing import Final, NamedTuple

from schemas import headers
from schemas.headers import header
from schemas.ids import parse_turn_id
from schemas.ports import Record
from schemas.topics import BY_NAME, DLQ_SUFFIX, Topic

_PARTS: Final = 3


class Place(NamedTuple):
    """Where a record lies; as text ``<topic>/<partition>/<offset>``."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


def parse_place(text: str) -> Place:
    """The place that ``text`` names. Raises ValueError."""
    parts = text.split("/")
    if len(parts) != _PARTS or not all(part.isascii() and part.isdecimal() for part in parts[1:]):
        raise ValueError("a place is <topic>/<partition>/<offset>")
    return Place(parts[0], int(parts[1]), int(parts[2]))


def parse_letter_place(text: str) -> Place:
    """The place of a dead letter that ``text`` names. Raises ValueError for any other place."""
    place = parse_place(text)
    source = BY_NAME.get(place.topic.removesuffix(DLQ_SUFFIX))
    if source is None or not source.dead_letters or place.topic != source.dlq:
        raise ValueError("this is no topic of dead letters: their names end in .dlq")
    return place


@dataclass(frozen=True, slots=True, repr=False)
class Letter:
    """One dead letter. ``origin`` is where the record was, ``topic`` its topic; ``turn_id`` as its header says.

    One record may have several letters: one of each stage that gave it up, and again after a crash. They share
    ``origin``, and what is done to one of them is done to all.
    """

    place: Place
    origin: Place
    topic: Topic
    stage: str
    cause: str
    turn_id: str | None
    record: Record

    @property
    def buried_at_ms(self) -> int:
        """When it died, in Unix milliseconds."""
        return self.record.timestamp_ms


def read_letter(record: Record) -> Letter | None:
    """The dead letter in ``record``; None when its headers do not tell where it came from."""
    topic = BY_NAME.get(header(record.headers, headers.DLQ_TOPIC) or "")
    try:
        origin = parse_place(
            "/".join(header(record.headers, name) or "" for name in (headers.DLQ_TOPIC, *_ORIGIN_NUMBERS))
        )
    except ValueError:
        return None
    if topic is None or topic.dlq != record.topic:
        return None
    return Letter(
        place=Place(record.topic, record.partition, record.offset),
        origin=origin,
        topic=topic,
        stage=header(record.headers, headers.DLQ_STAGE) or "",
        cause=header(record.headers, headers.DLQ_ERROR) or "",
        turn_id=_turn_id(record),
        record=record,
    )


_ORIGIN_NUMBERS: Final = (headers.DLQ_PARTITION, headers.DLQ_OFFSET)


def _turn_id(record: Record) -> str | None:
    try:
        return parse_turn_id(header(record.headers, headers.TURN) or "")
    except ValueError:
        return None
