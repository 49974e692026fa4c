import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.http.api_keys import (
    KEY_CHARS,
    KEY_ENTROPY_BYTES,
    bearer_token,
    key_hash,
    make_api_key,
    parse_api_key,
)

ENTROPY = st.binary(min_size=KEY_ENTROPY_BYTES, max_size=KEY_ENTROPY_BYTES)
KEY = make_api_key(bytes(range(KEY_ENTROPY_BYTES)))


@given(ENTROPY)
def test_every_key_made_is_parsed(entropy: bytes) -> None:
    key = make_api_key(entropy)
    assert parse_api_key(key.text) == key
    assert len(key.text) == KEY_CHARS
    assert key.text.split("-")[1] == key.key_id


@given(ENTROPY, st.integers(min_value=3, max_value=KEY_CHARS - 1), st.sampled_from("abcdefghijklmnopqrstuvwxyz234567"))
def test_a_typo_is_noticed(entropy: bytes, place: int, character: str) -> None:
    text = make_api_key(entropy).text
    typo = text[:place] + character + text[place + 1 :]
    assert typo == text or parse_api_key(typo) is None


@pytest.mark.parametrize(
    "text", ["", "ts-", "sk-abc", KEY.text.upper(), KEY.text + "a", KEY.text + "\n", " " + KEY.text]
)
def test_anything_else_is_no_key(text: str) -> None:
    assert parse_api_key(text) is None


def test_entropy_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="30 bytes"):
        make_api_key(b"short")


def test_the_hash_is_keyed_by_the_pepper() -> None:
    assert key_hash(KEY, b"pepper") == hmac.new(b"pepper", KEY.text.encode(), hashlib.sha256).hexdigest()
    assert key_hash(KEY, b"pepper") != key_hash(KEY, b"salt")


def test_a_key_never_shows_in_a_repr() -> None:
    assert KEY.text.split("-")[2] not in repr(KEY)


@pytest.mark.parametrize(
    ("header", "token"),
    [("Bearer abc", "abc"), ("bearer  abc ", "abc"), ("Basic abc", None), ("abc", None), ("", None), ("Bearer", "")],
)
def test_bearer_is_the_only_scheme(header: str, token: str | None) -> None:
    assert bearer_token(header) == token
