from consumers.dead_letter import bury, dead_letter, explain, failed_turn
from schemas import headers, ids, serde
from schemas.errors import Malformed
from schemas.headers import Headers, header
from schemas.ports import Record
from schemas.stream_state import INITIAL, advance
from schemas.tokens import Failed
from schemas.topics import TOKENS, TURNS_CANCELLED, TURNS_SUBMITTED

TURN = ids.new_turn_id(1_700_000_000_000, 7, b"entropy!")
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CONTENT = "what the user wrote"


def record(written: Headers, value: bytes = CONTENT.encode()) -> Record:
    return Record(TURNS_SUBMITTED.name, 3, 42, b"conv", value, written, 1)


def test_a_dead_letter_is_the_record_with_its_origin() -> None:
    original = record(serde.event_headers(TURNS_SUBMITTED, TURN, TRACE))
    letter = dead_letter(TURNS_SUBMITTED, original, "auth", Malformed("turn.model: missing"))
    assert (letter.topic, letter.key, letter.value) == (TURNS_SUBMITTED.dlq, b"conv", original.value)
    assert letter.headers[: len(original.headers)] == original.headers
    origin = [header(letter.headers, name) for name in (headers.DLQ_TOPIC, headers.DLQ_PARTITION, headers.DLQ_OFFSET)]
    assert origin == [TURNS_SUBMITTED.name, "3", "42"]
    assert header(letter.headers, headers.DLQ_STAGE) == "auth"
    assert header(letter.headers, headers.DLQ_ERROR) == "Malformed: turn.model: missing"


def test_a_second_death_replaces_the_origin_of_the_first() -> None:
    first = dead_letter(TURNS_SUBMITTED, record(()), "auth", Malformed("one"))
    again = dead_letter(TURNS_SUBMITTED, record(first.headers), "prompt", Malformed("two"))
    assert [name for name, _ in again.headers].count(headers.DLQ_STAGE) == 1
    assert header(again.headers, headers.DLQ_STAGE) == "prompt"


def test_the_client_of_the_turn_gets_a_terminal_in_its_partition() -> None:
    failed = failed_turn(record(serde.event_headers(TURNS_SUBMITTED, TURN, TRACE)))
    assert failed is not None
    assert (failed.topic, failed.key, failed.partition) == (TOKENS.name, TURN.encode(), 7)
    assert header(failed.headers, headers.TRACEPARENT) == TRACE
    event = serde.decode_token(failed.value)
    assert isinstance(event, Failed)
    assert advance(INITIAL, event).terminal == event


def test_no_terminal_without_a_turn_or_for_a_replay() -> None:
    assert failed_turn(record(())) is None
    assert failed_turn(record(((headers.TURN, b"no turn id"),))) is None
    assert failed_turn(record(((headers.TURN, b"\xff"),))) is None
    assert failed_turn(record(((headers.TURN, TURN.encode()), (headers.REPLAY, b"1")))) is None


def test_foreign_exceptions_are_told_by_class_alone() -> None:
    assert explain(ValueError(CONTENT)) == "ValueError"
    letter = dead_letter(TURNS_SUBMITTED, record(()), "auth", KeyError(CONTENT))
    assert CONTENT.encode() not in b"".join(value for _, value in letter.headers)


def test_a_topic_without_dead_letters_leaves_only_the_terminal() -> None:
    buried = bury(TURNS_CANCELLED, record(((headers.TURN, TURN.encode()),)), "stage", Malformed("x"))
    assert [one.topic for one in buried] == [TOKENS.name]
