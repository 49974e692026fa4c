import pytest
from pydantic import ValidationError

from producers.replay.reading import Reading
from producers.replay.selection import Selection
from producers.replay.times import parse_offsets, parse_time_ms
from schemas import topics
from schemas.event import Event
from schemas.events import Decision, ModerationDecided
from schemas.headers import Headers
from schemas.ports import Record
from schemas.serde import encode, event_headers
from schemas.topics import Topic
from tests.support import answer_records, turn_events

NOW_MS = turn_events.NOW_MS
TURN = turn_events.turn(1, stored=True)
ADMITTED = turn_events.admitted(TURN)
BLOCKED = ModerationDecided(
    turn_id=TURN.turn_id,
    conversation_id=TURN.conversation_id,
    tenant_id="acme",
    user_id="ann",
    decision=Decision.BLOCKED_INPUT,
    categories=("hate",),
    policy_version="1",
    decided_at_ms=NOW_MS,
)


def record(topic: Topic, event: Event, key: str = "", headers: Headers | None = None, at_ms: int = NOW_MS) -> Record:
    headers = event_headers(topic, None) if headers is None else headers
    return Record(topic.name, 0, 7, key.encode(), encode(event), headers, at_ms)


def means(selection: Selection, found: Record) -> bool:
    return selection.matcher()(found)


@pytest.mark.parametrize(
    ("wanted", "other"),
    [
        ({"turn": TURN.turn_id}, {"turn": turn_events.turn_id(2)}),
        ({"conversation": TURN.conversation_id}, {"conversation": "conv_x"}),
        ({"user": "ann"}, {"user": "bob"}),
        ({"tenant": "acme"}, {"tenant": "other"}),
        ({"where": 'turn.model == "turnstream-fast" and turn.stored'}, {"where": "not turn.stored"}),
        ({"since_ms": NOW_MS}, {"since_ms": NOW_MS + 1}),
        ({"until_ms": NOW_MS + 1}, {"until_ms": NOW_MS}),
        ({"turns": frozenset({TURN.turn_id})}, {"turns": frozenset()}),
        ({"where": "record.offset == 7"}, {"where": 'headers.schema == "x"'}),
    ],
)
def test_each_condition_selects(wanted: dict[str, object], other: dict[str, object]) -> None:
    found = record(topics.TURNS_ADMITTED, ADMITTED)
    assert means(Selection.model_validate({"topic": topics.TURNS_ADMITTED.name, **wanted}), found)
    assert not means(Selection.model_validate({"topic": topics.TURNS_ADMITTED.name, **other}), found)


@pytest.mark.parametrize("code", ["blocked_input", "hate"])
def test_codes_of_decisions(code: str) -> None:
    name = topics.MODERATION_DECISIONS.name
    assert means(Selection(topic=name, code=code), record(topics.MODERATION_DECISIONS, BLOCKED))
    assert not means(Selection(topic=name, code="allowed"), record(topics.MODERATION_DECISIONS, BLOCKED))


def test_a_refusal_is_found_by_its_code_and_type() -> None:
    refused = answer_records.refused(1)
    assert refused.refusal.error.type.value in Reading(record(topics.TOKENS, refused)).codes


def test_an_unreadable_letter_is_known_by_its_key_and_headers() -> None:
    headers = ((b"turn".decode(), b"t1"), ("tenant", b"acme"))
    letter = Record(topics.TURNS_ADMITTED.dlq, 0, 1, b"conv_1", b"\xff{", headers, NOW_MS)
    reading = Reading(letter)
    assert (reading.turn_id, reading.conversation_id, reading.tenant_id) == ("t1", "conv_1", "acme")
    assert means(Selection(topic=topics.TURNS_ADMITTED.dlq, conversation="conv_1"), letter)
    assert not means(Selection(topic=topics.TURNS_ADMITTED.dlq, where="turn.stored"), letter)


def test_a_record_of_an_answer_is_of_the_turn_of_its_key() -> None:
    delta = record(topics.TOKENS, answer_records.delta(1, 0, "x"), key=answer_records.turn_id_of(1))
    assert Reading(delta).turn_id == answer_records.turn_id_of(1)
    assert Reading(delta).conversation_id is None


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"topic": "chat.nothing.v1"}, "no such topic"),
        ({"topic": topics.TURNS_CANCELLED.dlq}, "no such topic"),
        ({"where": "turn.colour == 1"}, "turn has no field colour"),
        ({"where": "colour == 1"}, "has no field colour"),
        ({"where": "record.colour == 1"}, "record has the fields"),
        ({"where": "turn ="}, "malformed at character"),
        ({"offsets": {0: (5, 5)}}, "offsets go from"),
        ({"since_ms": 2, "until_ms": 2}, "time range is empty"),
    ],
)
def test_what_cannot_be_meant_is_said(fields: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Selection.model_validate({"topic": topics.TURNS_ADMITTED.name, **fields})


@pytest.mark.parametrize(
    "path",
    [
        "type",
        "usage.completion_tokens",
        "input[0].role",
        "refusal.error.code",
        "headers.anything",
        "limits.limit_tokens",
    ],
)
def test_fields_of_any_kind_of_answer_record_may_be_asked_for(path: str) -> None:
    assert Selection(topic=topics.TOKENS.name, where=f"{path} == 1").narrow


@pytest.mark.parametrize(
    ("text", "expected_ms"),
    [
        ("2h", NOW_MS - 7_200_000),
        ("1d12h ago", NOW_MS - 36 * 3_600_000),
        ("90m", NOW_MS - 5_400_000),
        ("now", NOW_MS),
        ("2025-11-21T04:40:00Z", NOW_MS),
        ("2025-11-21T05:40:00+01:00", NOW_MS),
        ("2025-11-21 04:40:00", NOW_MS),
        ("2025-11-21", NOW_MS - 16_800_000),
    ],
)
def test_times(text: str, expected_ms: int) -> None:
    assert parse_time_ms(text, NOW_MS) == expected_ms


@pytest.mark.parametrize("text", ["", "ago", "yesterday", "2h30", "25:99"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match="not a time"):
        parse_time_ms(text, NOW_MS)


def test_offsets() -> None:
    assert parse_offsets(["3:100-199", "4:7"]) == {3: (100, 200), 4: (7, 8)}
    for wrong in (["3"], ["3:9-8"], ["3:1", "3:2"], ["x:1"]):
        with pytest.raises(ValueError, match="range"):
            parse_offsets(wrong)
