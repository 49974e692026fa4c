import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import headers, serde, topics
from schemas.content import Content
from schemas.errors import Malformed
from schemas.tokens import Cancelled, Delta, Failed, Probed
from schemas.topics import ALL_TOPICS, Topic

PRIVATE = "my-private-words"
TURN = "0" * 26


@given(st.text(), st.integers(0, 2**40), st.integers(1, 2**31))
def test_any_text_survives_the_wire(text: str, seq: int, attempt: int) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return  # a lone surrogate has no UTF-8, so it cannot come from a request body either
    delta = Delta(turn_id=TURN, attempt=attempt, owner="w", seq=seq, content=Content(text), tokens=1)
    assert serde.decode_token(serde.encode(delta)) == delta
    assert serde.decode(topics.TOKENS, serde.encode(delta)) == delta


def test_absent_fields_are_not_written() -> None:
    failed = Failed.model_validate(
        {"turn_id": TURN, "refusal": {"status": 500, "error": {"message": "m", "type": "server_error"}}}
    )
    assert json.loads(serde.encode(failed)) == {
        "type": "failed",
        "turn_id": TURN,
        "refusal": {"status": 500, "error": {"message": "m", "type": "server_error"}},
    }


def test_unknown_fields_are_ignored() -> None:
    raw = {"type": "probed", "edge_id": "e", "nonce": "n", "added_next_year": {"deep": [1]}}
    assert serde.decode_token(json.dumps(raw).encode()) == Probed(edge_id="e", nonce="n")


@pytest.mark.parametrize("topic", ALL_TOPICS, ids=lambda topic: topic.name)
@pytest.mark.parametrize(
    "value",
    [b"", b"\xff\xfe", b"null", b"[]", b'"text"', b'{"turn_id":', f'{{"type":"{PRIVATE}"}}'.encode(), b"{}"],
    ids=repr,
)
def test_bytes_that_are_no_event_are_malformed(topic: Topic, value: bytes) -> None:
    with pytest.raises(Malformed, match=topic.name):
        serde.decode(topic, value)


def bad_delta(**fields: Any) -> bytes:
    good = {"type": "delta", "turn_id": TURN, "attempt": 1, "owner": "w", "seq": 0, "content": PRIVATE, "tokens": 1}
    return json.dumps(good | fields).encode()


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (bad_delta(seq=PRIVATE), "seq"),
        (bad_delta(content=[PRIVATE]), "content"),
        (bad_delta(content={PRIVATE: PRIVATE}), "content"),
        (bad_delta(attempt=0), "attempt"),
        (bad_delta(owner={"inner": PRIVATE}), "owner"),
    ],
)
def test_malformed_names_the_field_and_never_its_value(value: bytes, field: str) -> None:
    for decode in (serde.decode_token, lambda raw: serde.decode(topics.TOKENS, raw)):
        with pytest.raises(Malformed) as raised:
            decode(value)
        assert field in str(raised.value)
        assert PRIVATE not in str(raised.value)
        assert raised.value.__cause__ is None
        assert raised.value.__suppress_context__


def test_a_very_wrong_record_has_a_short_explanation() -> None:
    messages = [{"role": PRIVATE, "content": 1}] * 500
    with pytest.raises(Malformed) as raised:
        serde.decode(topics.TURNS_SUBMITTED, json.dumps({"input": messages}).encode())
    assert len(str(raised.value)) < 600
    assert PRIVATE not in str(raised.value)


def test_new_records_say_schema_turn_and_trace() -> None:
    made = serde.event_headers(topics.TOKENS, TURN, "00-trace-span-01")
    assert headers.header(made, headers.SCHEMA) == topics.TOKENS.name
    assert headers.header(made, headers.TURN) == TURN
    assert headers.header(made, headers.TRACEPARENT) == "00-trace-span-01"
    assert serde.event_headers(topics.TOKENS, None) == ((headers.SCHEMA, topics.TOKENS.name.encode()),)


# What a parser may choke on: each must be Malformed, and none may cost much time or stack.
HOSTILE = {
    "nested lists": b"[" * 200_000,
    "nested objects": b'{"a":' * 200_000,
    "nested in a field": b'{"type":"delta","turn_id":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "huge integer": b'{"type":"delta","seq":' + b"9" * 200_000 + b"}",
    "huge exponent": b'{"type":"delta","seq":1e999999999}',
    "invalid utf-8": b'{"type":"delta","turn_id":"\xff\xfe"}',
    "lone surrogate": b'{"type":"delta","turn_id":"\\ud800"}',
    "nul bytes": b"\x00" * 1_000,
    "utf-16": '{"type":"probed"}'.encode("utf-16"),
    "not a number": b'{"type":"delta","seq":NaN}',
}


@pytest.mark.parametrize("topic", ALL_TOPICS, ids=lambda topic: topic.name)
@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
def test_hostile_json_is_malformed_and_shortly_explained(topic: Topic, value: bytes) -> None:
    with pytest.raises(Malformed) as raised:
        serde.decode(topic, value)
    assert len(str(raised.value)) < 1_000


@given(st.binary(max_size=200))
def test_any_bytes_are_an_event_or_malformed(value: bytes) -> None:
    try:
        serde.decode_token(value)
    except Malformed:
        return
    assert json.loads(value)["type"]


def test_an_unknown_kind_of_event_is_not_quoted() -> None:
    with pytest.raises(Malformed) as raised:
        serde.decode_token(json.dumps({"type": PRIVATE}).encode())
    assert PRIVATE not in str(raised.value)


def test_a_record_of_another_schema_is_malformed_and_one_of_none_passes() -> None:
    serde.check_schema(topics.TOKENS, serde.event_headers(topics.TOKENS, TURN))
    serde.check_schema(topics.TOKENS, ())
    with pytest.raises(Malformed) as raised:
        serde.check_schema(topics.TOKENS, ((headers.SCHEMA, PRIVATE.encode()),))
    assert PRIVATE not in str(raised.value)


def test_a_replayed_token_record_counts_for_no_reader() -> None:
    value = b'{"type": "cancelled", "turn_id": "t", "reason": "client"}'
    assert isinstance(serde.decode_token(value), Cancelled)
    with pytest.raises(Malformed, match="replayed"):
        serde.decode_token(value, ((headers.REPLAY, b"run-1"),))
