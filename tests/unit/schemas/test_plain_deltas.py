import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import serde
from schemas.content import Content
from schemas.errors import Malformed
from schemas.plain_deltas import PlainDelta, PlainDeltas
from schemas.tokens import Delta

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
KNOWN = PlainDeltas("t", 1, "o")


@given(
    turn_id=NAMES,
    attempt=st.integers(1, 1000),
    owner=NAMES,
    seq=st.integers(0, 10**6),
    text=TEXTS,
    tokens=st.integers(0, 10**6),
)
def test_a_plain_delta_is_written_and_read_as_its_model_is(
    *, turn_id: str, attempt: int, owner: str, seq: int, text: str, tokens: int
) -> None:
    deltas = PlainDeltas(turn_id, attempt, owner)
    written = deltas.encode(seq, text, tokens)
    delta = Delta(turn_id=turn_id, attempt=attempt, owner=owner, seq=seq, content=Content(text), tokens=tokens)
    assert written == serde.encode(delta)
    assert deltas.decode(written, seq) in {None, PlainDelta(text, seq)}
    assert deltas.decode(written, seq + 1) is None


@pytest.mark.parametrize("text", ["", "a", "née ", "日本", "a b"])
def test_plain_text_needs_no_model(text: str) -> None:
    assert KNOWN.decode(KNOWN.encode(7, text, 2), 7) == PlainDelta(text, 7)


@given(st.binary(max_size=12), st.sampled_from([b'"', b'","tokens":', b'\\","tokens":', b'"}']), st.binary(max_size=6))
def test_what_is_read_without_the_model_is_what_the_model_reads(content: bytes, middle: bytes, rest: bytes) -> None:
    value = KNOWN.encode(0, "", 1).partition(b'"content":"')[0] + b'"content":"' + content + middle + rest
    plain = KNOWN.decode(value, 0)
    if plain is not None:
        read = serde.decode_token(value)
        assert isinstance(read, Delta)
        assert (read.content.text, read.seq) == plain


@pytest.mark.parametrize("tokens", [b"01}", b"-1}", b"1", b"}", b"1}}", b"1,}", b"x}", b"1 }", b"\xb2}"])
def test_what_is_no_count_is_left_to_the_model(tokens: bytes) -> None:
    value = KNOWN.encode(0, "a", 5).replace(b"5}", tokens)
    assert KNOWN.decode(value, 0) is None


def test_the_model_refuses_a_count_that_is_none() -> None:
    with pytest.raises(Malformed):
        serde.decode_token(KNOWN.encode(0, "a", 5).replace(b"5}", b"05}"))
