"""Finding a turn by its id alone: the port ``TurnLookup`` over the log."""

from collections.abc import Callable
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from schemas import ids, serde
from schemas.errors import Malformed, Retryable
from schemas.ports import LogReader, Record, TopicPartition
from schemas.stream_state import INITIAL, StreamState, advance
from schemas.tokens import Cleared
from schemas.topics import TOKENS


class TurnLookupSettings(BaseModel):
    """How far a turn is searched for."""

    model_config = ConfigDict(frozen=True)

    clock_skew_ms_max: int = Field(default=5_000, ge=0, description="Of the edge that made the id, to either side.")
    turn_life_seconds_max: int = Field(
        default=1_800, ge=1, description="After this nothing is written about a turn that says more of it."
    )
    records_max: int = Field(default=200_000, ge=1, description="Records of all turns that are read to find one.")
    first_chunk_records: int = Field(default=500, ge=1, description="Doubled for each further read.")
    chunk_records_max: int = Field(default=10_000, ge=1)


class LogTurnLookup:
    """Reads the turn's partition from the time in its id on, in growing chunks, no further than it must."""

    def __init__(self, log: LogReader, settings: TurnLookupSettings) -> None:
        self._log = log
        self._settings = settings

    async def find(self, turn_id: str) -> StreamState:
        """Where the turn stands by the log; the initial state without any record of it.

        Raises Retryable, also when its partition has grown too long to search.
        """
        return await self._fold(turn_id, lambda state: state.settled)

    async def clearance(self, turn_id: str) -> Cleared | None:
        """The turn's ``cleared``, read no further than to it; None when the log has none. Raises Retryable."""
        return (await self._fold(turn_id, lambda state: bool(state.cleared or state.terminal))).cleared

    async def _fold(self, turn_id: str, enough: Callable[[StreamState], bool]) -> StreamState:
        settings = self._settings
        partition = TopicPartition(TOKENS.name, ids.turn_partition(turn_id))
        made_ms = ids.turn_time_ms(turn_id)
        start = (await self._log.offsets_at((partition,), max(0, made_ms - settings.clock_skew_ms_max)))[partition]
        stop = (await self._log.end_offsets((partition,)))[partition]
        last_ms = made_ms + settings.turn_life_seconds_max * 1000 + settings.clock_skew_ms_max
        search = _Search(turn_id.encode(), last_ms)
        first, size = start, settings.first_chunk_records
        while first < stop and not search.exhausted and not enough(search.state):
            if first - start >= settings.records_max:
                raise Retryable(f"more than {settings.records_max} records would have to be read to find a turn")
            last = min(first + size, stop)
            for record in await self._log.read_range(partition, first, last):
                search.take(record)
            first, size = last, min(size * 2, settings.chunk_records_max)
        return search.state


class _Search:
    def __init__(self, key: bytes, last_ms: int) -> None:
        self.state: StreamState = INITIAL
        self.exhausted = False
        self._key: Final = key
        self._last_ms: Final = last_ms

    def take(self, record: Record) -> None:
        self.exhausted = record.timestamp_ms > self._last_ms
        if record.key != self._key:
            return
        try:
            self.state = advance(self.state, serde.decode_token(record.value, record.headers))
        except Malformed:
            # No reader of the log can count it, so it changes nothing here either.
            return
