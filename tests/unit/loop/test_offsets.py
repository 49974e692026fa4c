from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.offsets import PartitionProgress, Watermarks
from schemas.ports import TopicPartition

P0, P1 = TopicPartition("t", 0), TopicPartition("t", 1)


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    """Offsets with gaps, and the order in which some of them are finished."""
    offsets = sorted(draw(st.sets(st.integers(0, 60), min_size=1, max_size=20)))
    finished = draw(st.permutations(offsets))
    return offsets, finished[: draw(st.integers(0, len(offsets)))]


@given(histories())
def test_position_never_passes_an_unfinished_record_and_reaches_the_end(history: tuple[list[int], list[int]]) -> None:
    offsets, order = history
    progress = PartitionProgress(offsets[0])
    for offset in offsets:
        progress.give(offset)
    before = progress.position
    for offset in order:
        progress.finish(offset)
        assert progress.position >= before
        before = progress.position
    open_offsets = sorted(set(offsets) - set(order))
    assert progress.position == (open_offsets[0] if open_offsets else offsets[-1] + 1)


@given(histories(), st.data())
def test_giving_and_finishing_may_alternate(history: tuple[list[int], list[int]], data: Any) -> None:
    offsets, _ = history
    progress = PartitionProgress(offsets[0])
    unfinished: set[int] = set()
    for offset in offsets:
        progress.give(offset)
        unfinished.add(offset)
        for done in data.draw(st.sets(st.sampled_from(sorted(unfinished)))):
            progress.finish(done)
            unfinished.discard(done)
        still_to_read = [given for given in offsets if progress.position <= given <= offset]
        assert still_to_read[:1] == sorted(unfinished)[:1]


def test_an_offset_that_was_passed_is_refused() -> None:
    progress = PartitionProgress(5)
    progress.give(7)
    with pytest.raises(ValueError, match="passed"):
        progress.give(7)


def test_only_what_moved_is_due_and_only_once() -> None:
    marks = Watermarks()
    marks.give(P0, 10)
    marks.give(P1, 3)
    assert marks.due() == {}
    marks.finish(P0, 10)
    assert marks.due() == {P0: 11}
    marks.committed({P0: 11})
    assert marks.due() == {}


def test_a_failed_commit_stays_due() -> None:
    marks = Watermarks()
    marks.give(P0, 0)
    marks.finish(P0, 0)
    assert marks.due() == marks.due() == {P0: 1}


def test_a_forgotten_partition_is_never_committed() -> None:
    marks = Watermarks()
    marks.give(P0, 0)
    marks.forget([P0])
    marks.finish(P0, 0)
    assert marks.due() == {}


def test_a_log_that_was_reset_is_followed_from_its_new_start() -> None:
    marks = Watermarks()
    marks.give(P0, 100)
    marks.finish(P0, 100)
    marks.committed(marks.due())
    marks.give(P0, 0)
    assert marks.due() == {}
    marks.finish(P0, 0)
    assert marks.due() == {P0: 1}
