"""Finding a turn that another edge serves: its id says in which partition, and since when."""

from typing import Final

from producers.ingest.core import IngestSettings, RequestRefused
from schemas import ids, serde
from schemas.errors import Malformed, unavailable
from schemas.ports import LogReader, Record, TopicPartition
from schemas.stream_state import INITIAL, StreamState, advance
from schemas.topics import TOKENS

_RETRY_AFTER_S: Final = 5


def may_be_running(turn_id: str, now_ms: int, partitions: int, settings: IngestSettings) -> bool:
    """Whether a turn of this id can exist and be unfinished: a known partition, neither too old nor of the future."""
    age_ms = now_ms - ids.turn_time_ms(turn_id)
    return (
        ids.turn_partition(turn_id) < partitions
        and -settings.clock_skew_ms_max <= age_ms <= settings.turn_seconds_max * 1000 + settings.clock_skew_ms_max
    )


async def read_turn(log: LogReader, turn_id: str, settings: IngestSettings) -> StreamState:
    """Where the turn stands by its log, at most ``scan_records_max`` records from its start.

    A turn without any record is in its initial state. Raises Retryable from the log; RequestRefused (503) when
    the partition has grown too long to search.
    """
    partition = TopicPartition(TOKENS.name, ids.turn_partition(turn_id))
    since_ms = max(0, ids.turn_time_ms(turn_id) - settings.clock_skew_ms_max)
    start = (await log.offsets_at((partition,), since_ms))[partition]
    stop = (await log.end_offsets((partition,)))[partition]
    if stop - start > settings.scan_records_max:
        raise RequestRefused(unavailable("The turn cannot be found now.", "search_too_long", _RETRY_AFTER_S))
    state = INITIAL
    for first in range(start, stop, settings.scan_chunk_records_max):
        last = min(first + settings.scan_chunk_records_max, stop)
        for record in await log.read_range(partition, first, last):
            state = _fold(state, record, turn_id.encode())
    return state


def _fold(state: StreamState, record: Record, key: bytes) -> StreamState:
    if record.key != key:
        return state
    try:
        return advance(state, serde.decode_token(record.value))
    except Malformed:
        # No reader of the log can count it, so it changes nothing here either.
        return state
