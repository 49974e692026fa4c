"""The text of a measured answer shows every token that is lost, doubled, foreign or out of place."""

import random
from collections import Counter

import pytest

from bench.words import TOKENS_MAX, answer, faults, find_question, new_tag, place, question

TAG = "bcdf"
WORDS = answer(TAG, 5).split()


def test_a_whole_answer_has_no_faults() -> None:
    assert faults(TAG, 60, answer(TAG, 60)) == Counter()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (WORDS[:2] + WORDS[3:], {"missing": 1}),
        ([], {"missing": 5}),
        ([*WORDS, WORDS[0]], {"doubled": 1}),
        ([WORDS[1], WORDS[0], *WORDS[2:]], {"disordered": 1}),
        ([*WORDS, answer("zzzz", 1).strip()], {"foreign": 1}),
        ([*WORDS[:4], "error"], {"missing": 1, "foreign": 1}),
    ],
)
def test_each_fault_is_counted(words: list[str], expected: dict[str, int]) -> None:
    assert faults(TAG, 5, "".join(f"{word} " for word in words)) == expected


def test_a_question_is_found_in_any_body() -> None:
    asked = question(TAG, tokens=60, first_ms=50, gap_ms=20)
    body = f'{{"messages":[{{"content":"policy"}},{{"content":"{asked}"}}],"stream":true}}'.encode()
    assert find_question(body) == (TAG, {"tokens": 60, "first_ms": 50, "gap_ms": 20})
    assert find_question(b"{}") is None


def test_positions_are_all_different() -> None:
    assert len({place(index) for index in range(TOKENS_MAX)}) == TOKENS_MAX


def test_tags_are_found_again() -> None:
    dice = random.Random(1)
    for _ in range(100):
        tag = new_tag(dice)
        found = find_question(question(tag, tokens=1, first_ms=0, gap_ms=0).encode())
        assert found is not None
        assert found[0] == tag
