"""Finds the records of one turn: a bounded window of time on every topic, filtered by the ``turn`` header."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from pydantic import BaseModel, ConfigDict, Field

from schemas import ids, topics
from schemas.at_once import at_once
from schemas.headers import TURN, Headers
from schemas.ports import LogReader, Record, TopicPartition


class TraceSettings(BaseModel):
    """How far a trace looks. A turn longer than the window needs a larger one."""

    model_config = ConfigDict(frozen=True)

    clock_skew_ms: int = Field(default=5_000, ge=0, description="Records this much older than the turn id count, too.")
    window_ms: int = Field(default=600_000, gt=0, description="From the turn's submission on.")
    partition_records_max: int = Field(default=200_000, gt=0, description="Read of one partition; then it is cut off.")
    reads_in_flight_max: int = Field(default=16, gt=0)


@dataclass(frozen=True, slots=True)
class Found:
    """The records of a turn, unsorted, and the partitions that were too full to read to the end."""

    records: tuple[Record, ...]
    cut_off: tuple[TopicPartition, ...]


async def find_records(
    reader: LogReader, partitions: Sequence[TopicPartition], turn_id: str, settings: TraceSettings
) -> Found:
    """Every record of ``turn_id`` on ``partitions`` inside the window.

    Raises ValueError for a malformed turn id, Retryable when the log cannot be read.
    """
    wanted = relevant(partitions, turn_id)
    started_ms = ids.turn_time_ms(turn_id)
    starts = await reader.offsets_at(wanted, max(0, started_ms - settings.clock_skew_ms))
    stops = dict(await reader.offsets_at(wanted, started_ms + settings.window_ms))
    # Operators may act on a turn days later.
    if audit := [each for each in wanted if each.topic == topics.OPERATIONS_AUDIT.name]:
        stops.update(await reader.end_offsets(audit))
    limit = asyncio.Semaphore(settings.reads_in_flight_max)

    async def scan(partition: TopicPartition) -> list[Record]:
        stop = min(stops[partition], starts[partition] + settings.partition_records_max)
        async with limit:
            records = await reader.read_range(partition, starts[partition], stop)
        return [record for record in records if _is_of_turn(record.headers, turn_id.encode())]

    busy = [partition for partition in wanted if starts[partition] < stops[partition]]
    found = await at_once(scan(partition) for partition in busy)
    cut_off = (each for each in busy if stops[each] - starts[each] > settings.partition_records_max)
    return Found(tuple(chain.from_iterable(found)), tuple(cut_off))


def relevant(partitions: Sequence[TopicPartition], turn_id: str) -> list[TopicPartition]:
    """Without the tokens partitions in which the turn cannot be: its id names the only one."""
    home = ids.turn_partition(turn_id)
    return [each for each in partitions if each.topic != topics.TOKENS.name or each.partition == home]


def _is_of_turn(headers: Headers, turn_id: bytes) -> bool:
    return any(name == TURN and value == turn_id for name, value in headers)
