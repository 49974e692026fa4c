"""What is shown of a dead letter never holds what somebody wrote, wherever in the record it is."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import serde
from schemas.headers import Headers
from tests.support import turn_events as have
from turnstream.dead_letters.sealing import sealed_headers, sealed_key, sealed_value

WRITTEN = "my dog is called Waldmann"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(WRITTEN),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(("turn", "model", WRITTEN)), inner),
    max_leaves=12,
)


def test_ids_and_names_stay_and_text_goes() -> None:
    sealed = sealed_value(serde.encode(have.submitted(have.turn(1), have.user(WRITTEN))))
    assert sealed["turn"]["turn_id"] == have.turn_id(1)
    assert sealed["turn"]["model"] == "turnstream-fast"
    assert sealed["input"][0] == {"role": "user", "content": f"<{len(WRITTEN)} characters>"}
    assert sealed["credential"]["key_hash"] == "<64 characters>"


@given(JSON)
def test_content_shows_nowhere(value: object) -> None:
    shown = json.dumps(sealed_value(json.dumps(value).encode()))
    assert "Waldmann" not in shown


@pytest.mark.parametrize("value", [b"", b"\xffWaldmann", b'{"turn": "Waldmann', b"[" * 100_000])
def test_of_what_is_no_json_the_size_is_shown(value: bytes) -> None:
    assert sealed_value(value) == f"<no JSON: {len(value)} bytes>"


def test_headers_that_we_do_not_know_are_sizes() -> None:
    written: Headers = (
        ("turn", have.turn_id(1).encode()),
        ("tenant", WRITTEN.encode()),
        (WRITTEN, WRITTEN.encode()),
        ("dlq-error", b"Malformed: turn.model: Field required"),
    )
    assert sealed_headers(written) == {
        "turn": have.turn_id(1),
        "tenant": "<25 bytes>",
        "<25 characters>": "<25 bytes>",
        "dlq-error": "Malformed: turn.model: Field required",
    }


def test_keys_show_when_they_are_words() -> None:
    assert sealed_key(b"conv_1") == "conv_1"
    assert sealed_key(WRITTEN.encode()) == "<25 bytes>"
    assert sealed_key(None) == "<0 bytes>"
