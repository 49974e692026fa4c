"""One spelling for the many ways to write the same words. Pure; linear in the text's length.

Denied terms go through the same folding as texts, so folding may be rough as long as it is the same for both.
"""

import re
import unicodedata
from collections.abc import Sequence
from itertools import chain
from typing import Final

from stream_processors.moderation.look_alikes import LOOK_ALIKES

# Part of every policy's version: raise it when a change here changes verdicts.
NORMALISATION_VERSION: Final = 1
# So many single letters in a row are a word spelled out.
SPELLED_LETTERS_MIN: Final = 4

# Accents and other marks that sit on Latin, Greek and Cyrillic letters; vowel signs of other scripts are no accents.
_MARKS: Final = ((0x0300, 0x036F), (0x1AB0, 0x1AFF), (0x1DC0, 0x1DFF), (0x20D0, 0x20FF), (0xFE20, 0xFE2F))
# Characters without width: soft hyphen, joiners, direction marks, variation selectors, fillers, tags.
_INVISIBLE: Final = (
    (0x00AD, 0x00AD),
    (0x034F, 0x034F),
    (0x061C, 0x061C),
    (0x115F, 0x1160),
    (0x17B4, 0x17B5),
    (0x180B, 0x180F),
    (0x200B, 0x200F),
    (0x202A, 0x202E),
    (0x2060, 0x206F),
    (0x3164, 0x3164),
    (0xFE00, 0xFE0F),
    (0xFEFF, 0xFEFF),
    (0xFFA0, 0xFFA0),
    (0xE0000, 0xE007F),
    (0xE0100, 0xE01EF),
)
_DIGITS_FOR_LETTERS: Final = str.maketrans("013457@$", "oieastas")
# A digit that stands for a letter has letters around it; numbers on their own are numbers.
_DIGIT_IN_WORD: Final = re.compile(r"[013457@$](?:[^\W\d_]|(?<=[^\W\d_].))")
_WORD: Final = re.compile(r"[^\W_]+")
_ASCII_SPACED: Final = "".join(char if char.isalnum() else " " for char in map(chr, range(128)))


def _codes(ranges: Sequence[tuple[int, int]]) -> dict[int, str | None]:
    return dict.fromkeys(chain.from_iterable(range(first, last + 1) for first, last in ranges))


_REMOVED: Final = _codes(_INVISIBLE)
_FOLDED: Final = (
    _codes(_MARKS) | _REMOVED | {ord(twin): letter for letter, twins in LOOK_ALIKES.items() for twin in twins}
)


def plain(text: str) -> str:
    """``text`` with compatibility forms (wide digits, ligatures) replaced and invisible characters removed."""
    return text if text.isascii() else unicodedata.normalize("NFKC", text).translate(_REMOVED)


def fold(text: str) -> str:
    """``text`` in small letters, without accents and invisible characters, look-alike letters made Latin."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold()).translate(_FOLDED)


def words(folded: str) -> list[str]:
    """The runs of letters and digits of a folded text."""
    # Four times as fast as the expression, and most texts are ASCII.
    return folded.translate(_ASCII_SPACED).split() if folded.isascii() else _WORD.findall(folded)


def readings(folded: str) -> list[list[str]]:
    """The words of a folded text; a second time with digits read as letters, if that makes a difference."""
    found = [words(folded)]
    if _DIGIT_IN_WORD.search(folded):
        found.append(words(folded.translate(_DIGITS_FOR_LETTERS)))
    return found


def may_read_otherwise(folded: str) -> bool:
    """Whether a part of a folded text has digits that are letters if others in the text are."""
    return folded.translate(_DIGITS_FOR_LETTERS) != folded


def spelled_out(found: Sequence[str]) -> list[str]:
    """What runs of at least ``SPELLED_LETTERS_MIN`` single letters among the words spell, run by run."""
    lengths = list(map(len, found))
    if lengths.count(1) < SPELLED_LETTERS_MIN:
        return []
    runs: list[str] = []
    start = 0
    for end in [index for index, length in enumerate(lengths) if length > 1] + [len(lengths)]:
        if end - start >= SPELLED_LETTERS_MIN:
            runs.append("".join(found[start:end]))
        start = end + 1
    return runs
