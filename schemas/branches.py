"""The tree of a conversation's messages: who follows whom, and how to walk from a leaf to the beginning. Pure.

Every message names its parent by ``message_seq``; ``NO_PARENT`` is that of a message at the beginning. A message
without a parent (None: it was stored before there were branches) follows the message right before it. A parent is
always older than its children, so that a walk only goes down in ``message_seq`` and needs no more than the messages
at or before where it stands: a window of the newest messages first, older windows on demand.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from schemas.events import NO_PARENT


class Node(Protocol):
    """A message, as far as the tree is concerned."""

    @property
    def message_seq(self) -> int:
        """Its place in the log's order."""
        ...

    @property
    def parent_seq(self) -> int | None:
        """The message that it follows; ``NO_PARENT`` for none, None for the one right before it."""
        ...


NodeT = TypeVar("NodeT", bound=Node)


@dataclass(frozen=True, slots=True)
class Walk(Generic[NodeT]):
    """A part of one branch, oldest first.

    ``rest``: the walk goes on with the newest message at or before this ``message_seq``, which was not among the
    nodes; None when the beginning was reached, or as many messages as were asked for.
    """

    path: tuple[NodeT, ...]
    rest: int | None


def parent_of(node: Node) -> int:
    """The newest ``message_seq`` that can be the parent of ``node``; ``NO_PARENT`` when there is none."""
    return node.message_seq - 1 if node.parent_seq is None else node.parent_seq


def walk(nodes: Sequence[NodeT], start: int, messages_max: int) -> Walk[NodeT]:
    """The branch that ends with the newest of ``nodes`` (oldest first) at or before ``start``.

    A parent that is not there is replaced by the message before it: better a neighbour than the loss of all that is
    older.
    """
    seqs = [node.message_seq for node in nodes]
    path: list[NodeT] = []
    place = start
    while place > NO_PARENT and len(path) < messages_max:
        found = bisect_right(seqs, place)
        if found == 0:
            return Walk(tuple(reversed(path)), place)
        node = nodes[found - 1]
        path.append(node)
        place = min(parent_of(node), node.message_seq - 1)
    return Walk(tuple(reversed(path)), None)
