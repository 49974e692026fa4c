"""A text that grows by pieces and remembers where each ended. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple


class _Chunk(NamedTuple):
    text: str
    chars: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Pieces:
    """An immutable sequence of pieces, kept as a few joined chunks and the lengths of the pieces in characters.

    Neighbouring chunks are merged as long as the older is not longer, so there are at most logarithmically many, and
    appending n characters in any number of steps copies O(n log n) of them.
    """

    chunks: tuple[_Chunk, ...] = ()
    count: int = 0

    def and_then(self, pieces: Sequence[str]) -> "Pieces":
        """These pieces and then ``pieces``; an empty piece counts as one."""
        if not pieces:
            return self
        chunks = list(self.chunks)
        last = _Chunk("".join(pieces), tuple(map(len, pieces)))
        while chunks and _weight(chunks[-1]) <= _weight(last):
            before = chunks.pop()
            last = _Chunk(before.text + last.text, before.chars + last.chars)
        return Pieces((*chunks, last), self.count + len(pieces))

    @property
    def text(self) -> str:
        """All pieces, joined."""
        return "".join(chunk.text for chunk in self.chunks)

    @property
    def chars(self) -> tuple[int, ...]:
        """The length of each piece in characters, in order."""
        return tuple(length for chunk in self.chunks for length in chunk.chars)

    def __len__(self) -> int:
        return self.count


NO_PIECES: Final = Pieces()


def _weight(chunk: _Chunk) -> int:
    return len(chunk.text) + len(chunk.chars)
