"""A conversation has one running turn; what says so may be old, and the log knows better."""

import asyncio
from collections.abc import Sequence

import pytest

from schemas import ids
from schemas.errors import invalid_api_key
from schemas.events import FinishReason, Turn, TurnAuthorized, Usage
from schemas.ids import new_turn_id, public_turn_id
from schemas.ports import Owner
from schemas.stream_state import INITIAL, StreamState, advance
from schemas.tokens import AttemptStarted, Cleared, Finished, Persisted, Refused
from schemas.topics import TURNS_SUBMITTED
from stream_processors.auth.core import AuthSettings, waits
from stream_processors.topology import AUTH
from tests.support.processor_world import ProcessorWorld
from tests.support.turn_events import ACCOUNT, LIMITS, NOW_MS, conversation_id, received, submitted, turn, turn_id

C = conversation_id(1)
LIFE_MS = AuthSettings().turn_life_seconds_max * 1000
UNSEEN_MS = AuthSettings().turn_unseen_seconds_max * 1000


def continuing(number: int, **changes: object) -> Turn:
    return turn(number, **{"conversation_id": C, "stored": True, "starts_conversation": False, **changes})


def world() -> ProcessorWorld:
    made = ProcessorWorld()
    made.conversations.conversations[C] = Owner(ACCOUNT.tenant_id, ACCOUNT.user_id)
    return made


async def verdicts(of: ProcessorWorld, *turns: Turn) -> list[str]:
    """Per turn "authorized", or the code of its refusal with the turn that runs."""
    batch = [received(submitted(each), TURNS_SUBMITTED, offset) for offset, each in enumerate(turns)]
    outcomes = await of.processes()[AUTH](batch)
    found = []
    for outcome in outcomes:
        assert isinstance(outcome, Sequence)
        (emit,) = outcome
        if isinstance(emit.event, TurnAuthorized):
            found.append("authorized")
        else:
            assert isinstance(emit.event, Refused)
            error = emit.event.refusal.error
            found.append(f"{error.code} {error.active_turn_id or ''}".strip())
    return found


def running(*events: AttemptStarted | Finished | Persisted | Refused) -> StreamState:
    state = advance(INITIAL, cleared())
    for event in events:
        state = advance(state, event)
    return state


def cleared() -> Cleared:
    return Cleared(
        turn_id=turn_id(1),
        conversation_id=C,
        tenant_id="acme",
        user_id="ann",
        model="m",
        stored=True,
        message_seq=1000,
        submitted_at_ms=NOW_MS,
        limits=LIMITS,
    )


STARTED = AttemptStarted(turn_id=turn_id(1), attempt=1, owner="gpu")
FINISHED = Finished(
    turn_id=turn_id(1),
    attempt=1,
    owner="gpu",
    seq=0,
    finish_reason=FinishReason.STOP,
    usage=Usage(prompt_tokens=1, completion_tokens=0),
)
PERSISTED = Persisted(turn_id=turn_id(1), message_seq=1001)
BUSY = f"conversation_busy {public_turn_id(turn_id(1))}"


async def test_the_second_turn_of_a_batch_waits_for_the_first() -> None:
    made = world()
    assert await verdicts(made, continuing(1), continuing(2)) == ["authorized", BUSY]
    assert made.active.rows == {(C, turn_id(1))}


async def test_a_turn_of_another_conversation_or_none_does_not_wait() -> None:
    made = world()
    await verdicts(made, continuing(1))
    assert await verdicts(made, turn(2, stored=True), turn(3)) == ["authorized"] * 2
    assert made.active.rows == {(C, turn_id(1)), (conversation_id(2), turn_id(2))}
    assert made.lookup.asked == []


async def test_a_record_that_comes_again_gets_the_same_answer() -> None:
    made = world()
    batch = (continuing(1), continuing(1), continuing(2))
    assert await verdicts(made, *batch) == ["authorized", "authorized", BUSY]
    assert await verdicts(made, *batch) == ["authorized", "authorized", BUSY]


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (INITIAL, BUSY),
        (running(), BUSY),
        (running(STARTED), BUSY),
        (running(STARTED, FINISHED), BUSY),
        (running(STARTED, FINISHED, PERSISTED), "authorized"),
        (advance(INITIAL, Refused(turn_id=turn_id(1), stage="x", refusal=invalid_api_key())), "authorized"),
    ],
)
async def test_the_log_says_whether_a_noted_turn_runs(state: StreamState, expected: str) -> None:
    made = world()
    await verdicts(made, continuing(1))
    made.lookup.states[turn_id(1)] = state
    assert await verdicts(made, continuing(2)) == [expected]
    assert ((C, turn_id(1)) in made.active.rows) is (expected == BUSY)


@pytest.mark.parametrize(("age_ms", "expected"), [(UNSEEN_MS, BUSY), (UNSEEN_MS + 1, "authorized")])
async def test_a_note_without_any_record_holds_for_a_while(age_ms: int, expected: str) -> None:
    made = world()
    await verdicts(made, continuing(1))
    made.now_ms = NOW_MS + age_ms
    assert await verdicts(made, continuing(2)) == [expected]


async def test_a_turn_older_than_any_deadline_is_not_even_looked_up() -> None:
    made = world()
    await verdicts(made, continuing(1))
    made.now_ms = NOW_MS + LIFE_MS + 1
    made.lookup.down = True
    assert await verdicts(made, continuing(2)) == ["authorized"]


async def test_when_the_log_does_not_answer_nobody_is_told_that_a_turn_runs() -> None:
    made = world()
    await verdicts(made, continuing(1))
    made.lookup.down = True
    assert await verdicts(made, continuing(2)) == ["storage_unavailable"]
    assert (C, turn_id(1)) in made.active.rows


async def test_a_turn_that_comes_again_after_its_end_keeps_nobody_out() -> None:
    made = world()
    made.lookup.states[turn_id(1)] = advance(
        INITIAL, Refused(turn_id=turn_id(1), stage="auth", refusal=invalid_api_key())
    )
    assert await verdicts(made, continuing(1), continuing(2)) == ["authorized", "authorized"]
    assert made.active.rows == {(C, turn_id(2))}


async def test_a_log_that_is_slow_holds_nobody_else_up() -> None:
    made = world()
    running = [continuing(number, conversation_id=conversation_id(number)) for number in range(1, 20)]
    for each in running:
        made.conversations.conversations[each.conversation_id] = Owner(ACCOUNT.tenant_id, ACCOUNT.user_id)
    await verdicts(made, *running)
    made.lookup.hung = True
    made.auth = AuthSettings(lookup_seconds_max=0.02, lookups_in_flight_max=2)
    async with asyncio.timeout(5):
        next_ones = [
            continuing(100 + number, conversation_id=each.conversation_id) for number, each in enumerate(running)
        ]
        found = await verdicts(made, *next_ones, turn(200))
    assert found == [*(["storage_unavailable"] * len(running)), "authorized"]


async def test_somebody_elses_turn_is_not_told() -> None:
    made = world()
    await verdicts(made, continuing(1))
    made.conversations.conversations[C] = Owner("acme", "eve")
    assert await verdicts(made, continuing(2)) == ["conversation_not_found"]


async def test_without_the_notes_stored_turns_are_refused_and_others_go_on() -> None:
    made = world()
    made.active.down = True
    assert await verdicts(made, continuing(1), turn(2)) == ["storage_unavailable", "authorized"]


async def test_a_known_key_outlives_its_store() -> None:
    made = world()
    process = made.processes()[AUTH]
    batch = [
        received(submitted(turn(1)), TURNS_SUBMITTED),
        received(submitted(turn(2), key_hash="b" * 64), TURNS_SUBMITTED),
    ]
    await process(batch[:1])
    made.keys.down = True
    known, unknown = await process(batch)
    assert isinstance(known, Sequence)
    assert isinstance(unknown, Sequence)
    assert isinstance(known[0].event, TurnAuthorized)
    assert isinstance(unknown[0].event, Refused)
    assert unknown[0].event.refusal.status == 503
    made.now_ms += round(AuthSettings().key_stale_s_max * 1000)
    (outlived,) = await process(batch[:1])
    assert isinstance(outlived, Sequence)
    assert isinstance(outlived[0].event, Refused)


def test_the_oldest_running_turn_is_named() -> None:
    older, newer, asking = (new_turn_id(NOW_MS + number, 1, bytes(8)) for number in range(3))
    of = continuing(9, turn_id=asking)
    assert waits([of], {C: (older, newer)}, frozenset()) == {asking: older}
    assert waits([of], {C: (older, newer)}, frozenset({older})) == {asking: newer}
    assert waits([of], {C: (older, newer)}, frozenset({older, newer})) == {}
    assert ids.turn_time_ms(older) < ids.turn_time_ms(newer)
