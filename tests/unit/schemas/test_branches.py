"""The tree of messages, walked in one window and in many."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.branches import walk
from schemas.events import NO_PARENT


@dataclass(frozen=True)
class Place:
    message_seq: int
    parent_seq: int | None = None


def seqs(nodes: Sequence[Place]) -> list[int]:
    return [node.message_seq for node in nodes]


def test_messages_without_parents_follow_one_another() -> None:
    found = walk([Place(3), Place(5), Place(9)], 9, 10)
    assert (seqs(found.path), found.rest) == ([3, 5, 9], 2)


@pytest.mark.parametrize(("leaf", "expected"), [(9, [3, 8, 9]), (6, [3, 5, 6]), (8, [3, 8])])
def test_each_leaf_has_its_own_branch(leaf: int, expected: list[int]) -> None:
    tree = [Place(3, NO_PARENT), Place(5, 3), Place(6, 5), Place(8, 3), Place(9, 8)]
    found = walk(tree, leaf, 10)
    assert (seqs(found.path), found.rest) == (expected, None)


def test_a_branch_that_is_longer_than_asked_for_is_cut_at_its_beginning() -> None:
    found = walk([Place(1, NO_PARENT), Place(2, 1), Place(3, 2)], 3, 2)
    assert (seqs(found.path), found.rest) == ([2, 3], None)


def test_a_parent_outside_the_window_is_where_the_walk_goes_on() -> None:
    found = walk([Place(7, 2), Place(8, 7)], 8, 10)
    assert (seqs(found.path), found.rest) == ([7, 8], 2)


def test_a_lost_parent_is_replaced_by_its_neighbour() -> None:
    found = walk([Place(1, NO_PARENT), Place(2, 1), Place(9, 4)], 9, 10)
    assert (seqs(found.path), found.rest) == ([1, 2, 9], None)


def test_nothing_is_before_the_beginning() -> None:
    assert walk([Place(1, NO_PARENT)], NO_PARENT, 10).path == ()


@given(
    parents=st.lists(st.integers(min_value=0, max_value=1_000), min_size=1, max_size=60),
    window=st.integers(min_value=1, max_value=10),
    data=st.data(),
)
def test_windows_find_what_the_whole_tree_shows(parents: list[int], window: int, data: st.DataObject) -> None:
    tree = [Place(10 * i, (10 * (p % (i + 1)) - 10) if i else NO_PARENT) for i, p in enumerate(parents)]
    tree = [Place(node.message_seq, NO_PARENT if (node.parent_seq or 0) < 0 else node.parent_seq) for node in tree]
    leaf = data.draw(st.sampled_from(tree)).message_seq
    path: list[Place] = []
    rest: int | None = leaf
    while rest is not None:
        below = [node for node in tree if node.message_seq <= rest][-window:]
        found = walk(below, rest, 1_000)
        path = [*found.path, *path]
        rest = found.rest
    assert path == list(walk(tree, leaf, 1_000).path)
