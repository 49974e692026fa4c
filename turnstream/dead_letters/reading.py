"""Finds dead letters and what became of them."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from producers.audit.reading import read_actions, read_since
from producers.redrive.letters import Letter, Place, read_letter
from producers.redrive.states import Fate, Fates, LetterState, fold
from schemas.ports import LogReader, Record, TopicPartition
from schemas.topics import ALL_TOPICS, DLQ_PARTITIONS, DLQ_RETENTION_HOURS, Topic

LETTER_TOPICS: Final = tuple(topic for topic in ALL_TOPICS if topic.dead_letters)
# Whatever was done to a letter that still exists is not older.
AUDIT_LOOKS_BACK_MS: Final = (DLQ_RETENTION_HOURS + 24) * 3_600_000
Choose = Callable[[Record], bool]
# Dead letters may be large.
_CHUNK_RECORDS: Final = 200


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """Which letters are meant; what is empty or None means all. Times in Unix milliseconds, ``until_ms`` exclusive.

    ``cause`` is found anywhere in the cause, whatever the case. ``places`` exclude everything else. ``chosen`` has
    further conditions on the records, by the topic of the letters.
    """

    topics: Sequence[Topic] = LETTER_TOPICS
    since_ms: int = 0
    until_ms: int | None = None
    cause: str | None = None
    stage: str | None = None
    turn_id: str | None = None
    states: frozenset[LetterState] = frozenset(LetterState)
    places: frozenset[Place] = field(default_factory=frozenset)
    chosen: Mapping[str, Choose] = field(default_factory=dict)

    def matches(self, letter: Letter, fate: Fate) -> bool:
        """Whether ``letter``, of which ``fate`` became, is meant."""
        return (
            fate.state in self.states
            and (not self.places or letter.place in self.places)
            and (self.until_ms is None or letter.buried_at_ms < self.until_ms)
            and (self.cause is None or self.cause.lower() in letter.cause.lower())
            and self.stage in (None, letter.stage)
            and self.turn_id in (None, letter.turn_id)
            and all(choose(letter.record) for topic, choose in self.chosen.items() if topic == letter.place.topic)
        )


def letter_partitions(topics: Sequence[Topic]) -> list[TopicPartition]:
    """Where the letters of ``topics`` lie."""
    return [TopicPartition(topic.dlq, number) for topic in topics for number in range(DLQ_PARTITIONS)]


async def read_fates(reader: LogReader, now_ms: int) -> Fates:
    """What became of the letters that there are. Raises Retryable."""
    return fold(await read_actions(reader, max(0, now_ms - AUDIT_LOOKS_BACK_MS)))


async def find_letters(reader: LogReader, wanted: LetterFilter, fates: Fates) -> AsyncIterator[tuple[Letter, Fate]]:
    """The letters that ``wanted`` means, topic by topic in the order of their burial. Raises Retryable."""
    for partition in letter_partitions(wanted.topics):
        async for record in read_since(reader, partition, wanted.since_ms, _CHUNK_RECORDS):
            letter = read_letter(record)
            if letter is not None and wanted.matches(letter, fate := fates.of(letter.origin)):
                yield letter, fate


async def find_letter(reader: LogReader, place: Place) -> Letter | None:
    """The letter at ``place``; None when there is none. Raises Retryable."""
    partition = TopicPartition(place.topic, place.partition)
    if place.partition >= DLQ_PARTITIONS or place.offset >= (await reader.end_offsets((partition,)))[partition]:
        return None
    records = await reader.read_range(partition, place.offset, place.offset + 1)
    return read_letter(records[0]) if records else None
