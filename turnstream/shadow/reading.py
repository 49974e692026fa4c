"""Reads the two lives of turns: a run's own topics whole, and the live ones as far as its turns reach."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from schemas import ids, shadow
from schemas.headers import TURN, header, is_replayed
from schemas.ports import LogReader, Record, TopicPartition
from schemas.topics import TOKENS
from turnstream.shadow.facts import TOPICS, FactsOf

READ_RECORDS_MAX: Final = 1_000

# Called with the offsets that were read and those that will have been at the end.
OnRead = Callable[[int, int], None]


class DiffSettings(BaseModel):
    """How far the originals of a run are looked for."""

    model_config = ConfigDict(frozen=True)

    clock_skew_ms: int = Field(default=60_000, ge=0)
    turn_life_ms: int = Field(default=1_800_000, gt=0, description="After this nothing more is written of a turn.")


async def read_run(reader: LogReader, run_id: str) -> shadow.ShadowBegan | None:
    """What a run says of itself; None when its record is gone. Raises Retryable."""
    partition = TopicPartition(shadow.manifest_topic(run_id), 0)
    found = None
    stop = (await reader.end_offsets([partition]))[partition]
    start = (await reader.offsets_at([partition], 0))[partition]
    for record in await reader.read_range(partition, start, stop):
        try:
            found = shadow.ShadowBegan.model_validate_json(record.value)
        except ValueError:
            continue
    return found


async def read_shadows(reader: LogReader, run_id: str, on_read: OnRead) -> FactsOf:
    """The facts of all turns of a run. Raises Retryable."""
    facts = FactsOf()
    partitions = [
        TopicPartition(shadow.shadow_topic(run_id, topic.name), number)
        for topic in TOPICS
        for number in range(shadow.PARTITIONS)
    ]
    names = {shadow.shadow_topic(run_id, topic.name): topic.name for topic in TOPICS}
    starts = await reader.offsets_at(partitions, 0)
    stops = await reader.end_offsets(partitions)
    await _read(reader, starts, stops, lambda record: facts.take(record._replace(topic=names[record.topic])), on_read)
    return facts


async def read_originals(
    reader: LogReader,
    partitions: Sequence[TopicPartition],
    turn_ids: Sequence[str],
    settings: DiffSettings,
    on_read: OnRead,
) -> FactsOf:
    """What the live topics, with these ``partitions``, say of the turns. Replays are none of it. Raises Retryable."""
    facts = FactsOf(frozenset(turn_ids))
    if not turn_ids:
        return facts
    times = [ids.turn_time_ms(turn_id) for turn_id in turn_ids]
    homes = {ids.turn_partition(turn_id) for turn_id in turn_ids}
    names = {topic.name for topic in TOPICS}
    wanted = [
        each for each in partitions if each.topic in names and (each.topic != TOKENS.name or each.partition in homes)
    ]
    starts = await reader.offsets_at(wanted, max(0, min(times) - settings.clock_skew_ms))
    stops = await reader.offsets_at(wanted, max(times) + settings.turn_life_ms)

    def take(record: Record) -> None:
        if not is_replayed(record.headers):
            facts.take(record)

    await _read(reader, starts, stops, take, on_read)
    return facts


async def find_begun(reader: LogReader, run_id: str) -> dict[str, int]:
    """Of every turn that a run has begun to answer, the offset of its first record. Raises Retryable."""
    partitions = [
        TopicPartition(shadow.shadow_topic(run_id, TOKENS.name), number) for number in range(shadow.PARTITIONS)
    ]
    begun: dict[str, int] = {}

    def take(record: Record) -> None:
        turn_id = header(record.headers, TURN)
        if turn_id is not None:
            begun.setdefault(turn_id, record.offset)

    starts, stops = await reader.offsets_at(partitions, 0), await reader.end_offsets(partitions)
    await _read(reader, starts, stops, take, lambda _done, _total: None)
    return begun


async def _read(
    reader: LogReader,
    starts: Mapping[TopicPartition, int],
    stops: Mapping[TopicPartition, int],
    take: Callable[[Record], None],
    on_read: OnRead,
) -> None:
    total = sum(max(0, stops[each] - start) for each, start in starts.items())
    done = 0
    for partition, start in starts.items():
        for low in range(start, stops[partition], READ_RECORDS_MAX):
            high = min(low + READ_RECORDS_MAX, stops[partition])
            for record in await reader.read_range(partition, low, high):
                take(record)
            done += high - low
            on_read(done, total)
