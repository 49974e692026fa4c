"""Keys, what they are claimed under, and how a claimed turn stands."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.chat_completions.request import parse_request, turn_request
from producers.http.refused import RequestRefused
from producers.ingest.idempotency import KEY_CHARS_MAX, KeyHasher, Standing, read_key, standing_of
from schemas.accounts import Account
from schemas.content import Content
from schemas.errors import invalid_api_key, server_error
from schemas.events import FinishReason
from schemas.stream_state import INITIAL, advance
from schemas.tokens import Attached, AttemptStarted, Cancelled, Cleared, Delta, Failed, Finished, Refused, TokenEvent
from tests.unit.ingest.edge_world import ACCOUNT, LIMITS, USAGE

HASHER = KeyHasher(b"pepper")
T = "0" * 26
CLEARED = Cleared(
    turn_id=T,
    conversation_id="c",
    tenant_id="acme",
    user_id="ada",
    model="m",
    stored=False,
    message_seq=512,
    submitted_at_ms=0,
    limits=LIMITS,
)
STARTED = AttemptStarted(turn_id=T, attempt=1, owner="gpu")
DELTA = Delta(turn_id=T, attempt=1, owner="gpu", seq=0, content=Content("x"), tokens=1)
FINISHED = Finished(turn_id=T, attempt=1, owner="gpu", seq=0, finish_reason=FinishReason.STOP, usage=USAGE)
FAILED = Failed(turn_id=T, refusal=server_error("no"))
OWNERS_FAILED = Failed(turn_id=T, attempt=1, owner="gpu", refusal=server_error("no"))


@pytest.mark.parametrize(
    ("keys", "request_ids", "expected"),
    [
        ([], [], None),
        (["a"], [], "a"),
        ([], ["b"], "b"),
        (["a"], ["b"], "a"),
        (["a", "a"], [], "a"),
        (["x" * KEY_CHARS_MAX], [], "x" * KEY_CHARS_MAX),
        (["with a blank"], [], "with a blank"),
    ],
)
def test_the_key_of_a_request(keys: list[str], request_ids: list[str], expected: str | None) -> None:
    assert read_key(keys, request_ids) == expected


@pytest.mark.parametrize("values", [[""], ["a", "b"], ["x" * (KEY_CHARS_MAX + 1)], ["tab\t"], ["käse"], ["\x7f"]])
def test_keys_that_are_none(values: list[str]) -> None:
    for keys, request_ids in ((values, []), ([], values)):
        with pytest.raises(RequestRefused) as caught:
            read_key(keys, request_ids)
        assert (caught.value.refusal.status, caught.value.refusal.error.code) == (400, "invalid_idempotency_key")


@given(
    st.lists(st.tuples(st.text("a:1", max_size=3), st.text("a:1", max_size=3), st.text("a:1", max_size=3)), max_size=9)
)
def test_no_two_owners_or_keys_share_a_scope(parts: list[tuple[str, str, str]]) -> None:
    scopes = {
        part: HASHER.scope(Account(tenant_id=part[0], user_id=part[1], key_id="k", plan="free"), part[2])
        for part in parts
    }
    assert len(set(scopes.values())) == len(scopes)


def test_hashes_need_the_secret_and_show_nothing() -> None:
    assert HASHER.scope(ACCOUNT, "key") == KeyHasher(b"pepper").scope(ACCOUNT, "key")
    assert HASHER.scope(ACCOUNT, "key") != KeyHasher(b"other").scope(ACCOUNT, "key")


def test_requests_are_the_same_whatever_their_blanks_and_order() -> None:
    one = turn_request(parse_request(b'{"model":"m","messages":[{"role":"user","content":"hi"}],"temperature":1}'))
    two = turn_request(
        parse_request(b'{ "temperature": 1.0, "messages":[{"content":"hi","role":"user"}], "model":"m"}')
    )
    other = turn_request(parse_request(b'{"model":"m","messages":[{"role":"user","content":"hi "}],"temperature":1}'))
    assert HASHER.request(one) == HASHER.request(two)
    assert HASHER.request(one) != HASHER.request(other)


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ((), Standing.UNSEEN),
        ((Attached(turn_id=T, edge_id="e"),), Standing.UNSEEN),
        ((CLEARED,), Standing.ANSWERED),
        ((CLEARED, STARTED, DELTA), Standing.ANSWERED),
        ((CLEARED, STARTED, FINISHED), Standing.ANSWERED),
        ((CLEARED, Cancelled(turn_id=T, reason="client")), Standing.ANSWERED),
        ((CLEARED, STARTED, DELTA, OWNERS_FAILED), Standing.ANSWERED),
        ((Refused(turn_id=T, stage="auth", refusal=invalid_api_key()),), Standing.EMPTY),
        ((CLEARED, FAILED), Standing.EMPTY),
        ((FAILED,), Standing.EMPTY),
        ((CLEARED, STARTED, OWNERS_FAILED), Standing.EMPTY),
        ((CLEARED, Cancelled(turn_id=T, reason="abandoned")), Standing.EMPTY),
    ],
)
def test_how_a_turn_stands(events: tuple[TokenEvent, ...], expected: Standing) -> None:
    state = INITIAL
    for event in events:
        state = advance(state, event)
    assert standing_of(state) is expected
