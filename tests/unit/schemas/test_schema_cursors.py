import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.cursors import CURSOR_CHARS_MAX, Cursor, CursorSigner, cursor_key

KEY = cursor_key(b"pepper")
SIGNER = CursorSigner(KEY, "turn", "tenant", "user")

places = st.tuples(st.integers(0, 10**9), st.integers(0, 2**62))


@given(places)
def test_a_cursor_comes_back_as_it_was_given(place: tuple[int, int]) -> None:
    text = SIGNER.sign(*place)
    assert SIGNER.verify(text) == Cursor(*place)
    assert len(text) <= CURSOR_CHARS_MAX


@given(places, st.integers(0, CURSOR_CHARS_MAX), st.characters(exclude_categories=["Cs"]))
def test_an_altered_cursor_is_none(place: tuple[int, int], index: int, other: str) -> None:
    text = SIGNER.sign(*place)
    altered = text[:index] + other + text[index + 1 :]
    assert SIGNER.verify(altered) == (Cursor(*place) if altered == text else None)


@pytest.mark.parametrize(
    "other",
    [
        CursorSigner(cursor_key(b"another pepper"), "turn", "tenant", "user"),
        CursorSigner(KEY, "another turn", "tenant", "user"),
        CursorSigner(KEY, "turn", "another tenant", "user"),
        CursorSigner(KEY, "turn", "tenant", "another user"),
        CursorSigner(KEY, "turn", "tenantu", "ser"),
    ],
)
def test_a_foreign_cursor_is_none(other: CursorSigner) -> None:
    assert SIGNER.verify(other.sign(3, 7)) is None


@pytest.mark.parametrize("text", ["", "3", "3.7", "3.7.", "-1.7.AAAAAAAAAAAAAAAA", "03.7.AAAAAAAAAAAAAAAA", "9" * 100])
def test_nonsense_is_none(text: str) -> None:
    assert SIGNER.verify(text) is None
