"""A turn that was admitted and whose record is a dead letter has a bill of nothing."""

import pytest

from consumers.dead_letter import bury
from schemas import headers, serde
from schemas.errors import Malformed
from schemas.event import Event
from schemas.events import Decision, FinishReason, InferenceRequested, UsageRecorded
from schemas.ports import Outgoing, Record
from schemas.topics import (
    INFERENCE_REQUESTS,
    TOKENS,
    TURNS_ADMITTED,
    TURNS_AUTHORIZED,
    TURNS_PROMPTED,
    USAGE_EVENTS,
    Topic,
)
from tests.support import turn_events

TURN = turn_events.turn(1, origin="0123456789abcdef")
PROMPTED = turn_events.prompted(TURN)
REQUESTED = InferenceRequested(
    turn=TURN,
    account=turn_events.ACCOUNT,
    pool="fast",
    served_model="turnstream-fast",
    message_seq=1_000,
    prompt=PROMPTED.prompt,
)
BURIED_AT_MS = turn_events.NOW_MS + 5


def record(topic: Topic, value: bytes, written: headers.Headers = ()) -> Record:
    turn = serde.event_headers(topic, TURN.turn_id, None)
    return Record(topic.name, 0, 7, b"key", value, (*turn, *written), BURIED_AT_MS)


def bills(topic: Topic, buried: Record) -> list[Outgoing]:
    return [one for one in bury(topic, buried, "stage", Malformed("x"), "north") if one.topic == USAGE_EVENTS.name]


@pytest.mark.parametrize(
    ("topic", "event"),
    [
        (TURNS_ADMITTED, turn_events.admitted(TURN)),
        (TURNS_PROMPTED, PROMPTED),
        (INFERENCE_REQUESTS["fast"], REQUESTED),
    ],
)
def test_from_its_admission_on_a_turn_that_dies_is_billed_for_nothing(topic: Topic, event: Event) -> None:
    (written,) = bills(topic, record(topic, serde.encode(event)))
    bill = serde.decode(USAGE_EVENTS, written.value)
    assert isinstance(bill, UsageRecorded)
    assert bill.unused
    assert (bill.turn_id, bill.user_id, bill.model) == (TURN.turn_id, "ann", "turnstream-fast")
    assert (bill.finish_reason, bill.decision) == (FinishReason.FAILED, Decision.ALLOWED)
    assert (bill.region, bill.origin, bill.recorded_at_ms) == ("north", TURN.origin, BURIED_AT_MS)
    assert written.key == b"ann"


def test_what_is_wrong_with_the_record_need_not_keep_its_turn_from_a_bill() -> None:
    value = PROMPTED.model_dump_json(exclude={"prompt"}).encode()
    assert len(bills(TURNS_PROMPTED, record(TURNS_PROMPTED, value))) == 1


def test_no_bill_before_admission_of_a_replay_or_without_an_account() -> None:
    authorized = serde.encode(turn_events.authorized(TURN))
    assert bills(TURNS_AUTHORIZED, record(TURNS_AUTHORIZED, authorized)) == []
    replayed = record(TURNS_PROMPTED, serde.encode(PROMPTED), ((headers.REPLAY, b"1"),))
    assert bills(TURNS_PROMPTED, replayed) == []
    assert bills(TURNS_PROMPTED, record(TURNS_PROMPTED, b"{}")) == []
    ends = bury(TURNS_PROMPTED, record(TURNS_PROMPTED, b"no JSON"), "stage", Malformed("x"))
    assert [one.topic for one in ends] == [TURNS_PROMPTED.dlq, TOKENS.name]
