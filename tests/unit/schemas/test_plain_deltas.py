from hypothesis import given
from hypothesis import strategies as st

from schemas import serde
from schemas.content import Content
from schemas.plain_deltas import PlainDeltas
from schemas.tokens import Delta

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@given(
    turn_id=NAMES,
    attempt=st.integers(1, 1000),
    owner=NAMES,
    seq=st.integers(0, 10**6),
    text=TEXTS,
    tokens=st.integers(0, 10**6),
)
def test_a_plain_delta_is_written_as_its_model_is(
    *, turn_id: str, attempt: int, owner: str, seq: int, text: str, tokens: int
) -> None:
    written = PlainDeltas(turn_id, attempt, owner).encode(seq, text, tokens)
    delta = Delta(turn_id=turn_id, attempt=attempt, owner=owner, seq=seq, content=Content(text), tokens=tokens)
    assert written == serde.encode(delta)
