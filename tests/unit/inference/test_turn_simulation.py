"""Thousands of seeds of the real stage under faults, and planted bugs that these seeds must find."""

from collections.abc import Awaitable, Callable, Sequence

import pytest

from consumers.inference.answer import Answer, fold
from consumers.inference.pieces import Piece, grow
from consumers.inference.turn_log import OnKnown, TurnLog
from schemas.errors import OutcomeUnknown
from schemas.ports import Outgoing
from schemas.stream_state import StreamState
from schemas.tokens import TokenEvent
from schemas.topics import TOKENS
from tests.unit.inference.turn_simulation import Simulation, problems_of
from tests.unit.inference.virtual_time import run_virtually

# Pure computing, some seconds of it: on a busy machine that takes a while.
pytestmark = pytest.mark.timeout(90)

Append = Callable[[TurnLog, Sequence[TokenEvent], Sequence[Outgoing]], Awaitable[None]]
SEEDS = 2_000
SEEDS_OF_A_MUTANT_MAX = 400


def problems(seed: int) -> list[str]:
    async def simulate() -> list[str]:
        world = Simulation(seed)
        try:
            await world.run()
        except (ExceptionGroup, TimeoutError) as error:
            return [repr(error)]
        return problems_of(world.memory, TOKENS.name)

    return run_virtually(simulate())


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousands of log lines cost more than what they tell of."""
    for module in ("turn_run", "turn_log", "turn_outcome", "stage"):
        monkeypatch.setattr(f"consumers.inference.{module}._log", Silence())


class Silence:
    def info(self, _event: str, **_fields: object) -> None: ...

    def warning(self, _event: str, **_fields: object) -> None: ...


@pytest.mark.parametrize("block", range(5))
def test_every_seed_has_one_answer_one_end_and_equal_bills(block: int) -> None:
    bad = {seed: found for seed in range(block, SEEDS, 5) if (found := problems(seed))}
    assert bad == {}


async def nothing(*_arguments: object) -> None: ...


async def append_and_hope(
    log: TurnLog, events: Sequence[TokenEvent], others: Sequence[Outgoing] = (), append: Append = TurnLog.append
) -> None:
    """An append with unknown outcome is taken for one that landed."""
    try:
        await append(log, events, others)
    except OutcomeUnknown:
        for event in events:
            log.answer = fold(log.answer, event, 0)


def post_and_hope(
    log: TurnLog, pieces: Sequence[Piece], on_landed: OnKnown, post: Callable[..., None] = TurnLog.post
) -> None:
    """The same of a post."""

    def landed(*, known: bool) -> None:
        if not known:
            log.answer = grow(log.answer, pieces, 0)
        on_landed(known=True)

    post(log, pieces, landed)


async def read_nothing_back(log: TurnLog, _stop: int) -> None:
    """Who fenced believes that nothing was there before."""
    log.answer = Answer(StreamState(attempt=log._tried, owner=log.owner))


MUTANTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "an owner never looks": lambda patch: patch.setattr(TurnLog, "_look_to", nothing),
    "an unknown append is taken for a good one": lambda patch: patch.setattr(TurnLog, "append", append_and_hope),
    "an unknown post is taken for a good one": lambda patch: patch.setattr(TurnLog, "post", post_and_hope),
    "the log is not read back": lambda patch: patch.setattr(TurnLog, "_read_to", read_nothing_back),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_bug_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS[name](monkeypatch)
    assert any(problems(seed) for seed in range(SEEDS_OF_A_MUTANT_MAX))
