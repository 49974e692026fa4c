"""Dead letters go back, each as one turn, whatever crashes and however often it is asked."""

import json
import secrets
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from producers.redrive.letters import read_letter
from producers.redrive.mending import UNCHANGED, Mending
from producers.redrive.stage import Redrive
from producers.redrive.states import LetterState
from producers.redrive.summary import ALREADY, DELETED, UNFINISHED, RedriveRequest
from schemas import headers, serde
from schemas.errors import OutcomeUnknown
from schemas.event import Event
from schemas.events import InferenceRequested, Prompt, Turn, TurnSubmitted
from schemas.ids import new_turn_id, turn_partition, turn_time_ms
from schemas.ports import Owner, Record
from schemas.stream_state import StreamState
from schemas.tokens import Cancelled, Cleared
from schemas.topics import (
    INFERENCE_REQUESTS,
    OPERATIONS_AUDIT,
    TOKENS,
    TURNS_ADMITTED,
    TURNS_AUTHORIZED,
    TURNS_PROMPTED,
    TURNS_SUBMITTED,
    USAGE_EVENTS,
    Topic,
)
from tests.support import turn_events as have
from tests.support.turn_events import ACCOUNT
from tests.unit.redrive.redrive_world import SETTINGS, UNPACED, RedriveWorld

OWNER = Owner(ACCOUNT.tenant_id, ACCOUNT.user_id)
POISON = {"max_tokens": -1}
CURE = {"turn": {"max_tokens": None}}


@pytest.fixture
def world() -> RedriveWorld:
    return RedriveWorld()


def poisoned(event: Event) -> bytes:
    document = json.loads(serde.encode(event))
    document["turn"] |= POISON
    return json.dumps(document).encode()


def event_of(record: Record) -> Any:
    topic = {TURNS_SUBMITTED.name: TURNS_SUBMITTED, TURNS_PROMPTED.name: TURNS_PROMPTED}.get(record.topic)
    return serde.decode(topic or next(t for t in INFERENCE_REQUESTS.values() if t.name == record.topic), record.value)


def requested(of: Turn) -> InferenceRequested:
    prompt = Prompt(messages=(have.user("before"), have.user("hello")), input_count=1, prompt_tokens=9, max_tokens=9)
    return InferenceRequested(turn=of, account=ACCOUNT, pool="fast", message_seq=1_000, prompt=prompt)


def stored_turn(number: int = 1, conversation: int = 1, **changes: object) -> Turn:
    return have.turn(number, conversation_id=have.conversation_id(conversation), stored=True, **changes)


async def test_a_submitted_turn_is_asked_again_under_a_new_id_with_time_from_now(world: RedriveWorld) -> None:
    old = have.turn(1)
    letter = world.bury(TURNS_SUBMITTED, have.submitted(old), old.turn_id, ("traceparent", b"00-a-b-01"))
    now_ms = world.log.now_ms
    summary = await world.redrive([letter])
    (record,) = world.driven(TURNS_SUBMITTED)
    turn = event_of(record).turn
    assert turn.turn_id != old.turn_id
    assert turn_partition(turn.turn_id) == turn_partition(old.turn_id)
    assert turn_time_ms(turn.turn_id) == turn.submitted_at_ms == now_ms
    assert turn.deadline_ms - now_ms == old.deadline_ms - old.submitted_at_ms
    # Behind the end of the old turn, before everything of the new one.
    assert turn.tokens_from == len(world.log.records(TOKENS.name))
    assert record.key == old.conversation_id.encode()
    assert headers.header(record.headers, headers.TURN) == turn.turn_id
    assert headers.header(record.headers, headers.REDRIVE) == str(letter.place)
    assert headers.header(record.headers, headers.TRACEPARENT) == "00-a-b-01"
    assert not [name for name, _ in record.headers if name.startswith("dlq-")]
    assert [(each.place, each.turn_id, each.new_turn_id) for each in summary.redriven] == [
        (letter.place, old.turn_id, turn.turn_id)
    ]


async def test_fields_of_a_schema_to_come_survive(world: RedriveWorld) -> None:
    document = json.loads(serde.encode(have.submitted(have.turn(1)))) | {"later": {"x": 1}}
    letter = world.bury(TURNS_SUBMITTED, json.dumps(document).encode(), have.turn_id(1))
    await world.redrive([letter])
    assert json.loads(world.driven(TURNS_SUBMITTED)[0].value)["later"] == {"x": 1}


async def test_a_poisoned_value_stays_until_it_is_mended(world: RedriveWorld) -> None:
    letter = world.bury(TURNS_SUBMITTED, poisoned(have.submitted(have.turn(1))), have.turn_id(1))
    summary = await world.redrive([letter])
    (obstacle,) = summary.obstacles
    assert "turn.max_tokens" in obstacle
    assert not world.driven(TURNS_SUBMITTED)
    assert not (await world.fates()).by_origin
    assert len((await world.redrive([letter], CURE)).redriven) == 1
    (record,) = world.driven(TURNS_SUBMITTED)
    assert event_of(record).turn.max_tokens is None


async def test_a_hundred_letters_redriven_twice_are_a_hundred_turns(world: RedriveWorld) -> None:
    letters = [
        world.bury(TURNS_SUBMITTED, poisoned(have.submitted(have.turn(number))), have.turn_id(number))
        for number in range(100)
    ]
    first = await world.redrive(letters, CURE)
    second = await world.redrive(letters, CURE)
    third = await world.redrive(letters, CURE, again=True)
    new_ids = [each.new_turn_id for each in first.redriven]
    assert len(set(new_ids)) == 100
    assert second.closed == {ALREADY: 100}
    assert [each.new_turn_id for each in third.redriven] == new_ids
    turns = [headers.header(record.headers, headers.TURN) for record in world.driven(TURNS_SUBMITTED)]
    assert Counter(turns) == dict.fromkeys(new_ids, 2)


async def test_a_turn_that_the_log_shows_is_not_appended_again(world: RedriveWorld) -> None:
    letter = world.bury(TURNS_SUBMITTED, have.submitted(have.turn(1)), have.turn_id(1))
    (done,) = (await world.redrive([letter])).redriven
    assert done.new_turn_id is not None
    world.turns.states[done.new_turn_id] = StreamState(terminal=Cancelled(turn_id=done.new_turn_id, reason="client"))
    (again,) = (await world.redrive([letter], again=True)).redriven
    assert (again.new_turn_id, again.appended) == (done.new_turn_id, False)
    assert len(world.driven(TURNS_SUBMITTED)) == 1


@pytest.mark.parametrize("failing", [0, 1, 2])
@pytest.mark.parametrize("landing", [False, True])
async def test_a_crash_at_any_append_leaves_one_turn(world: RedriveWorld, failing: int, *, landing: bool) -> None:
    letter = world.bury(TURNS_SUBMITTED, have.submitted(have.turn(1)), have.turn_id(1))
    producer = world.log.producer()
    appended = 0

    class Failing:
        async def append(self, records: Any) -> Any:
            nonlocal appended
            appended += 1
            if appended == failing + 1:
                world.log.fail_next_append(landing=landing)
            return await producer.append(records)

    ports = world.ports()
    failing_trail = type(ports.trail)(Failing(), "os:op", secrets.token_bytes, lambda: world.log.now_ms)

    run = Redrive(replace(ports, producer=Failing(), trail=failing_trail), SETTINGS, RedriveRequest(UNCHANGED), UNPACED)
    with pytest.raises(OutcomeUnknown):
        await run.run([letter], lambda _more: None)
    world.log.now_ms += 60_000
    summary = await world.redrive([letter])
    turns = {headers.header(record.headers, headers.TURN) for record in world.driven(TURNS_SUBMITTED)}
    assert len(turns) == 1
    fate = (await world.fates()).of(letter.origin)
    assert fate.state is LetterState.REDRIVEN
    assert fate.rebirth is not None
    assert turns == {fate.rebirth.turn_id}
    if failing == 2 and landing:
        assert summary.closed == {ALREADY: 1}


async def test_two_letters_of_one_record_are_one_turn(world: RedriveWorld) -> None:
    letter = world.bury(TURNS_SUBMITTED, have.submitted(have.turn(1)), have.turn_id(1))
    twin = world.log.put(
        letter.place.topic, letter.record.key, letter.record.value, letter.record.headers, letter.place.partition
    )

    other = read_letter(twin)
    assert other is not None
    await world.redrive([letter, other])
    assert len(world.driven(TURNS_SUBMITTED)) == 1
    assert (await world.redrive([other])).closed == {ALREADY: 1}


@pytest.mark.parametrize(
    ("topic", "event"),
    [
        (TURNS_AUTHORIZED, have.authorized(stored_turn())),
        (TURNS_ADMITTED, have.admitted(stored_turn())),
        (TURNS_PROMPTED, have.prompted(stored_turn())),
        (INFERENCE_REQUESTS["fast"], requested(stored_turn())),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
async def test_past_auth_a_turn_keeps_its_place_and_is_noted_as_running(
    world: RedriveWorld, topic: Topic, event: Any
) -> None:
    world.conversations.conversations[have.conversation_id(1)] = OWNER
    letter = world.bury(topic, event, have.turn_id(1))
    (done,) = (await world.redrive([letter])).redriven
    (record,) = world.driven(topic)
    driven = serde.decode(topic, record.value)
    assert (driven.message_seq, driven.turn.turn_id) == (1_000, done.new_turn_id)
    assert world.active.rows == {(have.conversation_id(1), done.new_turn_id)}


async def test_a_turn_of_a_deleted_conversation_stays(world: RedriveWorld) -> None:
    letter = world.bury(TURNS_ADMITTED, have.admitted(stored_turn()), have.turn_id(1))
    assert (await world.redrive([letter])).obstacles == {DELETED: 1}
    world.conversations.conversations[have.conversation_id(1)] = Owner("acme", "bob")
    assert (await world.redrive([letter])).obstacles == {DELETED: 1}


async def test_a_request_for_inference_is_cleared_before_it_is_asked(world: RedriveWorld) -> None:
    world.conversations.conversations[have.conversation_id(1)] = OWNER
    letter = world.bury(INFERENCE_REQUESTS["fast"], requested(stored_turn()), have.turn_id(1))
    original = Cleared(
        turn_id=have.turn_id(1),
        conversation_id=have.conversation_id(1),
        tenant_id=ACCOUNT.tenant_id,
        user_id=ACCOUNT.user_id,
        model="turnstream-fast",
        stored=True,
        message_seq=1_000,
        submitted_at_ms=have.NOW_MS,
        limits=have.LIMITS,
        input=(have.user("hello"),),
        parent_seq=900,
    )
    world.turns.states[have.turn_id(1)] = StreamState(cleared=original)
    (done,) = (await world.redrive([letter])).redriven
    assert done.new_turn_id is not None
    cleared = serde.decode_token(world.driven(TOKENS)[0].value)
    assert cleared == original.model_copy(
        update={"turn_id": done.new_turn_id, "submitted_at_ms": turn_time_ms(done.new_turn_id)}
    )


async def test_without_the_old_clearance_the_request_tells_what_it_knows(world: RedriveWorld) -> None:
    letter = world.bury(INFERENCE_REQUESTS["fast"], requested(have.turn(1)), have.turn_id(1))
    world.turns.down = True
    (done,) = (await world.redrive([letter])).redriven
    assert world.answers() == [(done.new_turn_id, "cleared")]


async def test_what_is_no_turn_goes_back_as_it_was(world: RedriveWorld) -> None:
    cancelled = Cancelled(turn_id=have.turn_id(1), reason="client")
    letter = world.bury(TOKENS, cancelled, have.turn_id(1))
    (done,) = (await world.redrive([letter])).redriven
    assert done.new_turn_id is None
    (record,) = world.driven(TOKENS)
    assert (record.value, record.key, record.partition) == (serde.encode(cancelled), b"key", letter.origin.partition)


async def test_records_of_shadow_runs_and_of_other_schemas_stay(world: RedriveWorld) -> None:
    shadow = world.bury(TURNS_SUBMITTED, have.submitted(have.turn(1)), have.turn_id(1), (headers.REPLAY, b"run"))
    letter = world.bury(USAGE_EVENTS, b"[" * 100_000, None)
    summary = await world.redrive([shadow, letter])
    assert sorted(summary.obstacles.values()) == [1, 1]
    assert any("shadow" in obstacle for obstacle in summary.obstacles)


async def test_a_turn_of_a_partition_that_never_was_stays(world: RedriveWorld) -> None:
    old = have.turn(1, turn_id=have.turn_id(1, 60_000))
    letter = world.bury(TURNS_SUBMITTED, have.submitted(old), None)
    (obstacle,) = (await world.redrive([letter])).obstacles
    assert "partition" in obstacle


async def test_turns_of_one_conversation_wait_for_each_other(world: RedriveWorld) -> None:
    letters = [
        world.bury(TURNS_SUBMITTED, have.submitted(stored_turn(number)), have.turn_id(number)) for number in (1, 2)
    ]
    summary = await world.redrive(letters)
    assert summary.obstacles == {UNFINISHED: 1}
    assert len(world.driven(TURNS_SUBMITTED)) == 1
    assert world.waited_s == [0.5, 0.5]
    (first,) = summary.redriven
    assert first.new_turn_id is not None
    ended = Cancelled(turn_id=first.new_turn_id, reason="client")
    world.turns.states[first.new_turn_id] = StreamState(terminal=ended)
    later = await world.redrive(letters)
    assert later.closed == {ALREADY: 1}
    assert len(later.redriven) == 1
    (_, record) = world.driven(TURNS_SUBMITTED)
    event: TurnSubmitted = event_of(record)
    assert event.turn.turn_id == later.redriven[0].new_turn_id


async def test_a_turn_waits_for_one_that_its_user_has_asked_meanwhile(world: RedriveWorld) -> None:
    letter = world.bury(TURNS_SUBMITTED, have.submitted(stored_turn(1, starts_conversation=False)), have.turn_id(1))

    running = new_turn_id(world.log.now_ms - 1_000, 5, bytes(8))
    world.active.rows.add((have.conversation_id(1), running))
    assert (await world.redrive([letter])).obstacles == {UNFINISHED: 1}
    world.turns.states[running] = StreamState(terminal=Cancelled(turn_id=running, reason="client"))
    assert not (await world.redrive([letter])).obstacles


async def test_a_plan_does_nothing(world: RedriveWorld) -> None:

    letter = world.bury(TURNS_SUBMITTED, poisoned(have.submitted(have.turn(1))), have.turn_id(1))
    planned = await Redrive(world.ports(), SETTINGS, RedriveRequest(Mending(patch=CURE)), UNPACED).plan([letter])
    assert [each.place for each in planned.redriven] == [letter.place]
    assert not world.log.records(OPERATIONS_AUDIT.name)
    assert not world.driven(TURNS_SUBMITTED)
