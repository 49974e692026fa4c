"""The examples of ``docs/api.md`` as programs: what is shown to readers is what is run. Pure.

A fenced block runs when ``run`` follows its language (```` ```python run ````). The blocks of one language below one
heading of the second level are one program, in their order; the blocks below ``PREAMBLE`` come before every program
of their language.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PAGE: Final = Path(__file__).parents[2] / "docs" / "api.md"
PREAMBLE: Final = "Start"
MARK: Final = "run"
LANGUAGES: Final = ("bash", "python", "typescript")

_HEADING: Final = re.compile(r"^## +(.+?)\s*$")
_FENCE: Final = re.compile(r"^(```+)\s*(\S*)\s*(.*?)\s*$")
_NO_WORD: Final = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True)
class Program:
    """All examples of one section in one language, ready to run."""

    section: str
    language: str
    code: str

    @property
    def name(self) -> str:
        """A name for a file or a test."""
        return f"{_NO_WORD.sub('_', self.section.lower()).strip('_')}_{self.language}"


def programs(markdown: str, language: str) -> Sequence[Program]:
    """The programs of a page in one language, in its order."""
    blocks = _blocks(markdown, language)
    before = blocks.get(PREAMBLE, [])
    return [
        Program(section, language, "\n".join([*before, *code]) + "\n")
        for section, code in blocks.items()
        if section != PREAMBLE
    ]


def _blocks(markdown: str, language: str) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    section, fence, taken = "", "", False
    for line in markdown.splitlines():
        mark = _FENCE.match(line)
        if not fence and mark is not None:
            fence, taken = mark[1], (mark[2], mark[3]) == (language, MARK)
            if taken:
                found[section].append("")
        elif fence and line.strip() == fence:
            fence = ""
        elif fence and taken:
            found[section][-1] += line + "\n"
        elif not fence and (heading := _HEADING.match(line)):
            section = heading[1].replace("`", "")
    return found
