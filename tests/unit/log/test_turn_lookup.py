import pytest

from schemas import ids
from schemas.errors import Retryable
from schemas.events import Turn
from schemas.ports import Record, TopicPartition
from schemas.stream_state import INITIAL
from schemas.tokens import Cancelled, Finished
from schemas.topics import TOKENS
from tests.support.memory_log import MemoryLog, MemoryLogReader
from tests.unit.ingest.edge_world import ACCOUNT, Stages
from turnstream.log.turn_lookup import LogTurnLookup, TurnLookupSettings

NOW_MS = 1_700_000_000_000
SETTINGS = TurnLookupSettings(first_chunk_records=2, chunk_records_max=4, clock_skew_ms_max=1_000)


class CountingReader(MemoryLogReader):
    """Remembers where it was asked to stop reading."""

    stops: list[int]

    async def read_range(self, partition: TopicPartition, start: int, stop: int) -> tuple[Record, ...]:
        self.stops.append(stop)
        return tuple(await super().read_range(partition, start, stop))


def make_turn(*, stored: bool = False) -> Turn:
    return Turn(
        turn_id=ids.new_turn_id(NOW_MS, 2, bytes(8)),
        conversation_id=ids.new_conversation_id(NOW_MS, bytes(10)),
        starts_conversation=True,
        stored=stored,
        model="turnstream-fast",
        submitted_at_ms=NOW_MS,
        deadline_ms=NOW_MS + 60_000,
    )


def lookup_in(log: MemoryLog, settings: TurnLookupSettings = SETTINGS) -> tuple[LogTurnLookup, CountingReader]:
    reader = CountingReader(log)
    reader.stops = []
    return LogTurnLookup(reader, settings), reader


async def test_a_turn_is_found_among_foreign_and_broken_records() -> None:
    log, turn = MemoryLog(), make_turn()
    log.now_ms = NOW_MS - 60_000
    for key in [b"foreign"] * 10:
        log.put(TOKENS.name, key, b"not even JSON", partition=2)
    log.now_ms = NOW_MS
    stages = Stages(log, turn)
    stages.clear()
    for key in (b"foreign", turn.turn_id.encode()):
        log.put(TOKENS.name, key, b"{}", partition=2)
    stages.cancel()
    lookup, _ = lookup_in(log)
    state = await lookup.find(turn.turn_id)
    assert state.cleared is not None
    assert state.cleared.user_id == ACCOUNT.user_id
    assert isinstance(state.terminal, Cancelled)


async def test_a_turn_that_the_log_does_not_know_is_in_its_initial_state() -> None:
    lookup, _ = lookup_in(MemoryLog())
    assert await lookup.find(make_turn().turn_id) is INITIAL
    assert await lookup.clearance(make_turn().turn_id) is None


async def test_nothing_is_read_beyond_what_settles_the_turn() -> None:
    log, turn = MemoryLog(), make_turn(stored=True)
    log.now_ms = NOW_MS
    stages = Stages(log, turn)
    stages.clear()
    stages.finish()
    stages.persist()
    for _ in range(20):
        log.put(TOKENS.name, b"foreign", b"{}", partition=2)
    lookup, reader = lookup_in(log)
    state = await lookup.find(turn.turn_id)
    assert isinstance(state.terminal, Finished)
    assert state.persisted is not None
    assert reader.stops == [2, 6]
    reader.stops.clear()
    assert await lookup.clearance(turn.turn_id) == state.cleared
    assert reader.stops == [2]


async def test_a_turn_is_not_looked_for_after_its_life() -> None:
    log, turn = MemoryLog(), make_turn()
    log.now_ms = NOW_MS + (SETTINGS.turn_life_seconds_max + 2) * 1000
    for _ in range(20):
        log.put(TOKENS.name, b"foreign", b"{}", partition=2)
    lookup, reader = lookup_in(log)
    assert await lookup.find(turn.turn_id) is INITIAL
    assert reader.stops == [2]


async def test_a_partition_too_long_to_search_is_an_error() -> None:
    log, turn = MemoryLog(), make_turn()
    log.now_ms = NOW_MS
    for _ in range(9):
        log.put(TOKENS.name, b"foreign", b"{}", partition=2)
    lookup, _ = lookup_in(log, SETTINGS.model_copy(update={"records_max": 4}))
    with pytest.raises(Retryable):
        await lookup.find(turn.turn_id)
