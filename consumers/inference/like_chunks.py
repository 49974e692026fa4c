"""Chunks that differ from an earlier one in their text alone, read without parsing them. Pure.

Nearly all chunks of a stream do: its id, model and time are said again with every token.
"""

from collections.abc import Sequence
from typing import Final

# Inside a JSON string a quotation mark is escaped, so this stands nowhere but before the value of such a member.
_OPENINGS: Final = ('"content":"', '"content": "')


class LikeChunks:
    """Learns what stands around the text of a chunk, and finds the text of others with the same around it."""

    def __init__(self) -> None:
        self._before = ""
        self._after = ""

    def texts_of(self, events: Sequence[str], first: int) -> list[str]:
        """The texts of ``events`` from ``first`` on, up to one that is not like that chunk and has to be parsed."""
        before, after = self._before, self._after
        texts: list[str] = []
        if not before:
            return texts
        start, stop = len(before), -len(after)
        for at in range(first, len(events)):
            data = events[at]
            if not (data.startswith(before) and data.endswith(after)):
                break
            text = data[start:stop]
            if not text or not _is_plain(text):
                break
            texts.append(text)
        return texts

    def learn(self, data: str, text: str) -> None:
        """Learn from ``data``, a chunk that says ``text`` and nothing that must not be heard twice."""
        self._before = ""
        for opening in _OPENINGS:
            before, found, rest = data.partition(opening)
            if found and opening not in rest and rest.startswith(f'{text}"') and _is_plain(text):
                self._before, self._after = before + opening, rest[len(text) :]


def _is_plain(text: str) -> bool:
    """Whether JSON spells ``text`` as it is."""
    return '"' not in text and "\\" not in text
