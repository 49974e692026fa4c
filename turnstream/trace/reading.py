"""A turn's records, decoded, in the order of time, each with whether it counted and who wrote it. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from schemas import headers, serde, topics
from schemas.errors import Malformed
from schemas.ports import Record
from schemas.stream_state import INITIAL, StreamState, advance
from schemas.tokens import AttemptStarted, Cancelled, Cleared, Delta, Failed, Finished, Persisted, Refused
from turnstream.trace.event_words import event_words

EDGE: Final = "edge"
INFERENCE: Final = "inference"
SINK: Final = "cassandra_sink"
MODERATION: Final = "moderation"
DEAD_LETTER: Final = "dead letter"
_TOPIC_ORDER: Final = {topic.name: place for place, topic in enumerate(topics.ALL_TOPICS)}


@dataclass(frozen=True, slots=True)
class Reading:
    """A record and what it says. ``event`` is None for a dead letter or an unreadable record.

    ``counted`` is False for records of the answer that the fence made invisible: zombies and duplicates.
    """

    record: Record
    event: Any
    what: str
    counted: bool = True

    @property
    def stage(self) -> str:
        """Who wrote the record, as far as it tells."""
        match self.event:
            case Cleared():
                return MODERATION
            case Refused():
                return str(self.event.stage)
            case AttemptStarted() | Delta() | Finished():
                return INFERENCE
            case Failed():
                return INFERENCE if self.event.owner else DEAD_LETTER
            case Persisted():
                return SINK
            case Cancelled():
                return EDGE
        topic = topics.BY_NAME.get(self.record.topic)
        if topic is None:
            return headers.header(self.record.headers, headers.DLQ_STAGE) or DEAD_LETTER
        return topic.producer.partition(",")[0]


def read_turn(records: Iterable[Record]) -> tuple[StreamState, Sequence[Reading]]:
    """Every record of one turn, in the order of time, and where the log says that its answer stands."""
    answer: list[Record] = []
    others: list[Record] = []
    for record in records:
        (answer if record.topic == topics.TOKENS.name else others).append(record)
    state, readings = _read_answer(answer)
    return state, sorted((*readings, *map(_read, others)), key=_place)


def _read(record: Record) -> Reading:
    topic = topics.BY_NAME.get(record.topic)
    if topic is None:
        error = headers.header(record.headers, headers.DLQ_ERROR) or "no reason given"
        return Reading(record, None, f"{DEAD_LETTER}: {error}")
    try:
        event = serde.decode(topic, record.value)
    except Malformed as malformed:
        return Reading(record, None, f"unreadable: {malformed}", counted=False)
    return Reading(record, event, event_words(event))


def _read_answer(records: Iterable[Record]) -> tuple[StreamState, list[Reading]]:
    state, readings = INITIAL, []
    for record in sorted(records, key=lambda record: record.offset):
        reading = _read(record)
        if reading.event is not None:
            after = advance(state, reading.event)
            reading = replace(reading, counted=after is not state)
            state = after
        readings.append(reading)
    return state, readings


def _place(reading: Reading) -> tuple[int, int, int]:
    record = reading.record
    return record.timestamp_ms, _TOPIC_ORDER.get(record.topic, len(_TOPIC_ORDER)), record.offset
