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

    def texts_of(self, events: Sequence[str]) -> Sequence[str]:
        """The texts of ``events`` if all of them are like that chunk; else none: look at each."""
        start, stop = len(self._before), -len(self._after)
        if not start:
            return ()
        before, after = self._before, self._after
        texts = [data[start:stop] for data in events if data.startswith(before) and data.endswith(after)]
        return texts if len(texts) == len(events) and all(texts) and _is_plain("".join(texts)) else ()

    def text_of(self, data: str) -> str | None:
        """The text of ``data`` if it is like the chunk that was learned; None when it has to be parsed."""
        if self._before and data.startswith(self._before) and data.endswith(self._after):
            text = data[len(self._before) : -len(self._after)]
            if text and _is_plain(text):
                return text
        return None

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
