import pytest

from producers.ingest.core import IngestSettings, RequestRefused
from producers.ingest.turn_search import may_be_running, read_turn
from schemas import ids
from schemas.events import Turn
from schemas.tokens import Cancelled
from schemas.topics import TOKENS
from tests.support.memory_log import MemoryLog
from tests.unit.ingest.edge_world import ACCOUNT, Stages

NOW_MS = 1_700_000_000_000
SETTINGS = IngestSettings(scan_chunk_records_max=3, turn_seconds_max=60, clock_skew_ms_max=1_000)


def make_turn(partition: int = 2) -> Turn:
    return Turn(
        turn_id=ids.new_turn_id(NOW_MS, partition, bytes(8)),
        conversation_id=ids.new_conversation_id(NOW_MS, bytes(10)),
        starts_conversation=True,
        stored=False,
        model="turnstream-fast",
        submitted_at_ms=NOW_MS,
        deadline_ms=NOW_MS + 60_000,
    )


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
    state = await read_turn(log.reader(), turn.turn_id, SETTINGS)
    assert state.cleared is not None
    assert state.cleared.user_id == ACCOUNT.user_id
    assert isinstance(state.terminal, Cancelled)


async def test_a_partition_too_long_to_search_is_503() -> None:
    log, turn = MemoryLog(), make_turn()
    log.now_ms = NOW_MS
    for _ in range(5):
        log.put(TOKENS.name, b"foreign", b"{}", partition=2)
    with pytest.raises(RequestRefused) as caught:
        await read_turn(log.reader(), turn.turn_id, SETTINGS.model_copy(update={"scan_records_max": 4}))
    assert caught.value.refusal.status == 503


@pytest.mark.parametrize(
    ("now_ms", "partition", "expected"),
    [
        (NOW_MS, 2, True),
        (NOW_MS - 1_000, 2, True),
        (NOW_MS - 1_001, 2, False),
        (NOW_MS + 61_000, 2, True),
        (NOW_MS + 61_001, 2, False),
        (NOW_MS, 4, False),
    ],
)
def test_only_a_recent_turn_of_a_known_partition_is_searched(now_ms: int, partition: int, expected: bool) -> None:  # noqa: FBT001
    assert may_be_running(make_turn(partition).turn_id, now_ms, 4, SETTINGS) is expected
