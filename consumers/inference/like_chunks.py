"""Chunks that differ from an earlier one in their text alone, read without parsing each of them. Pure.

Nearly all chunks of a stream do: its id, model and time are said again with every token.
"""

from typing import Final

from pydantic_core import from_json

from consumers.inference.sse_lines import DATA, EVENT_END

# Inside a JSON string a quotation mark is escaped, so this stands nowhere but before the value of such a member.
_OPENINGS: Final = ('"content":"', '"content": "')


class LikeChunks:
    """Learns what stands around the text of a chunk, and reads events that have the same around theirs."""

    def __init__(self) -> None:
        self._first = ""
        self._between = ""
        self._last = ""

    def read(self, events: str) -> tuple[str, int] | None:
        """The text of ``events`` (see ``SseDecoder``), and of how many chunks it is; None if one has to be parsed."""
        if not self._first or not events.startswith(self._first) or not events.endswith(self._last):
            return None
        texts = events[len(self._first) : -len(self._last)].split(self._between)
        text = "".join(texts)
        if "" in texts or "\n" in text:
            return None
        if '"' in text or "\\" in text:
            spelled = _spelled(texts, text)
            return None if spelled is None else (spelled, len(texts))
        return text, len(texts)

    def learn(self, data: str, text: str) -> None:
        """Learn from ``data``, a chunk that says ``text`` and nothing that must not be heard twice."""
        self._first = ""
        for opening in _OPENINGS:
            before, found, rest = data.partition(opening)
            if found and opening not in rest and rest.startswith(f'{text}"') and _is_plain(text):
                self._first, self._last = DATA + before + opening, rest[len(text) :]
                self._between = self._last + EVENT_END + self._first


def _is_plain(text: str) -> bool:
    """Whether JSON spells ``text`` as it is."""
    return '"' not in text and "\\" not in text


def _spelled(texts: list[str], joined: str) -> str | None:
    """What ``texts`` spell in JSON; None when one alone may spell something else than in one with its neighbours."""
    if "\\u" in joined or any(text.endswith("\\") for text in texts):
        return None
    try:
        spelled: str = from_json(f'"{joined}"')
    except ValueError:
        return None
    return spelled
