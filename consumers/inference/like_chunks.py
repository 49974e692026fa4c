"""Chunks that differ from an earlier one in their text alone, read without parsing each of them. Pure.

Nearly all chunks of a stream do: its id, model and time are said again with every token.
"""

import re
from typing import Final, NamedTuple

from pydantic_core import from_json

from consumers.inference.sse_lines import DATA, EVENT_END

# Inside a JSON string a quotation mark is escaped, so this stands nowhere but before the value of such a member.
_OPENINGS: Final = ('"content":"', '"content": "')
# Two of them make a character, which may be cut between two chunks.
_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")


class Run(NamedTuple):
    """Events in a row that are alike: what they say, how many they are, and where the next one begins.

    ``text`` is None where one alone may say something else than in one with its neighbours.
    """

    text: str | None
    chunks: int
    end: int


class LikeChunks:
    """Learns what stands around the text of a chunk, and reads events that have the same around theirs."""

    def __init__(self) -> None:
        self._before = ""
        self._after = ""
        self._between = ""

    def run(self, events: str, at: int) -> Run | None:
        """Those of ``events`` (see ``SseDecoder``) from the one at ``at`` on that are alike; None if that is not."""
        before, after = self._before, self._after
        if not before or not events.startswith(before, at):
            return None
        texts = events[at + len(before) :].split(self._between)
        last, found, rest = texts.pop().partition(after)
        if found and (not rest or rest.startswith(EVENT_END)):
            texts.append(last)
        if not texts:
            return None
        text, chunks = "".join(texts), len(texts)
        end = at + len(text) + chunks * (len(before) + len(after) + len(EVENT_END))
        if "" in texts or "\n" in text:
            return Run(None, chunks, end)
        return Run(text if _is_plain(text) else _spelled(texts, text), chunks, end)

    def learn(self, data: str, text: str) -> None:
        """Learn from ``data``, a chunk that says ``text`` and nothing that must not be heard twice."""
        self._before = ""
        for opening in _OPENINGS:
            before, found, rest = data.partition(opening)
            if found and opening not in rest and rest.startswith(f'{text}"') and _is_plain(text):
                self._before, self._after = DATA + before + opening, rest[len(text) :]
                self._between = self._after + EVENT_END + self._before


def _is_plain(text: str) -> bool:
    """Whether JSON spells ``text`` as it is."""
    return '"' not in text and "\\" not in text


def _spelled(texts: list[str], joined: str) -> str | None:
    """What ``texts`` spell in JSON, one by one; None if ``joined`` may spell something else."""
    if _SURROGATE.search(joined) or any(text.endswith("\\") for text in texts):
        return None
    try:
        spelled: str = from_json(f'"{joined}"')
    except ValueError:
        return None
    return spelled
