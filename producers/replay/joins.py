"""Conditions that a topic's own records cannot answer: its turns are looked up on topics that can."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from producers.replay.plan import READ_RECORDS_MAX, OnProgress, Progress, find_ranges
from producers.replay.reading import Reading, topic_of
from producers.replay.selection import Selection
from schemas.ports import LogReader, TopicPartition
from schemas.topics import (
    LIMITS_LEDGER,
    MODERATION_DECISIONS,
    TOKENS,
    TURNS_AUTHORIZED,
    TURNS_CANCELLED,
    TURNS_SUBMITTED,
    USAGE_EVENTS,
)

PHASE: Final = "look up turns"
# Other records of a turn lie around the one that is asked for, as far apart as a turn may last.
TURN_MS_MAX: Final = 900_000

_IDENTITIES: Final = ("conversation", "user", "tenant")
_TELL_CODES: Final = frozenset(each.name for each in (MODERATION_DECISIONS, TOKENS, USAGE_EVENTS, LIMITS_LEDGER))
_UNTOLD: Final[Mapping[str, tuple[str, ...]]] = {
    # Of an answer only the clearance says whose it is.
    TOKENS.name: _IDENTITIES,
    TURNS_CANCELLED.name: _IDENTITIES,
    # An API key says whose it is once auth has resolved it.
    TURNS_SUBMITTED.name: ("user", "tenant"),
}
_IDENTITY_TOPICS: Final = (TURNS_AUTHORIZED.name, TOKENS.name)
_CODE_TOPICS: Final = (MODERATION_DECISIONS.name, TOKENS.name, USAGE_EVENTS.name)

PartitionsOf = Callable[[str], Sequence[TopicPartition]]


def untold(selection: Selection) -> tuple[str, ...]:
    """The conditions of ``selection`` that the records of its topic do not answer by themselves. Pure."""
    topic = topic_of(selection.topic)
    names = _UNTOLD.get(topic.name, ())
    missing = [name for name in names if getattr(selection, name) is not None]
    if selection.code is not None and topic.name not in _TELL_CODES:
        missing.append("code")
    return tuple(missing)


async def resolve(
    reader: LogReader,
    partitions_of: PartitionsOf,
    selection: Selection,
    on_progress: OnProgress = lambda _progress: None,
) -> Selection:
    """``selection`` with every untold condition replaced by the turns that meet it. Raises Retryable."""
    turns = selection.turns
    for name in untold(selection):
        found: set[str] = set()
        for topic in _CODE_TOPICS if name == "code" else _IDENTITY_TOPICS:
            wanted = _around(selection).model_copy(update={"topic": topic, name: getattr(selection, name)})
            found |= await find_turns(reader, partitions_of(topic), wanted, on_progress)
        turns = frozenset(found) if turns is None else turns & found
    return selection.model_copy(update={**dict.fromkeys(untold(selection)), "turns": turns})


async def find_turns(
    reader: LogReader,
    partitions: Sequence[TopicPartition],
    selection: Selection,
    on_progress: OnProgress = lambda _progress: None,
) -> frozenset[str]:
    """The turns of the records that ``selection`` means by themselves. Raises Retryable."""
    matches = selection.matcher()
    found: set[str] = set()
    spans = await find_ranges(reader, partitions, selection)
    total, done = sum(span.stop - span.start for span in spans), 0
    for span in spans:
        for low in range(span.start, span.stop, READ_RECORDS_MAX):
            high = min(low + READ_RECORDS_MAX, span.stop)
            for record in await reader.read_range(span.partition, low, high):
                if matches(record) and (turn_id := Reading(record).turn_id) is not None:
                    found.add(turn_id)
            done += high - low
            on_progress(Progress(PHASE, done, total, len(found)))
    return frozenset(found)


def _around(selection: Selection) -> Selection:
    """The time of ``selection`` with room for the rest of its turns, and nothing else of it."""
    since, until = selection.since_ms, selection.until_ms
    return Selection(
        topic=selection.topic,
        since_ms=None if since is None else max(0, since - TURN_MS_MAX),
        until_ms=None if until is None else until + TURN_MS_MAX,
    )
