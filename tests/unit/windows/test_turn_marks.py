"""Marks of turns: known again, bounded, small."""

from stream_processors.windows.turn_marks import marks, remember, remember_newest, turn_mark


def test_a_mark_is_short_and_has_no_space() -> None:
    found = {turn_mark(f"turn-{number}") for number in range(1_000)}
    assert len(found) == 1_000
    assert {len(mark) for mark in found} == {12}
    assert not any(" " in mark for mark in found)


def test_ids_of_an_older_version_become_marks() -> None:
    assert marks(["a", "b"]) == f"{turn_mark('a')} {turn_mark('b')} "
    assert marks(marks(["a"])) == marks(["a"])
    assert marks([]) == ""


def test_what_is_full_takes_no_more() -> None:
    seen = ""
    for turn in "abc":
        seen = remember(seen, turn_mark(turn), 2)
    assert seen == marks(["a", "b"])


def test_of_the_newest_the_oldest_goes() -> None:
    seen = ""
    for turn in "abc":
        seen = remember_newest(seen, turn_mark(turn), 2)
    assert seen == marks(["b", "c"])
