"""The words of a text are the same, whichever way they are found."""

from hypothesis import given
from hypothesis import strategies as st

from stream_processors.moderation.normalise import words

ASCII = st.text(st.characters(max_codepoint=127))


@given(ASCII)
def test_ascii_texts_have_the_words_that_they_have_among_others(text: str) -> None:
    assert [*words(text), "ж"] == words(f"{text} ж")
