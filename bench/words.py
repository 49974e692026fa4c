"""The text of a measured answer: it depends on a tag alone, so that each lost, doubled or foreign token shows. Pure.

The question carries ``[[tag bcdf]]``; every token of the answer is that tag, its own position in letters and a space.
Consonants alone: no rule of a moderation policy matches them, and no JSON escapes them.
"""

import random
import re
from collections import Counter
from functools import cache
from typing import Final

LETTERS: Final = "bcdfghjklmnpqrstvwxz"
TAG_CHARS: Final = 4
PLACE_CHARS: Final = 3
TOKENS_MAX: Final = len(LETTERS) ** PLACE_CHARS

_TAG: Final = re.compile(rb"\[\[tag ([%s]{%d})\]\]" % (LETTERS.encode(), TAG_CHARS))
_PACE: Final = re.compile(rb"\[\[demo ([a-z0-9_= ]*)\]\]")


def new_tag(dice: random.Random) -> str:
    """A tag that another stream hardly has."""
    return "".join(dice.choices(LETTERS, k=TAG_CHARS))


def question(tag: str, *, tokens: int, first_ms: int, gap_ms: int) -> str:
    """A prompt that asks for that answer at that pace; the demonstration model keeps to the pace as well."""
    return f"Measure this. [[tag {tag}]] [[demo first_ms={first_ms} gap_ms={gap_ms} tokens={tokens}]]"


def find_question(body: bytes) -> tuple[str, dict[str, int]] | None:
    """The newest tag in a request, and ``tokens``, ``first_ms``, ``gap_ms`` as far as they are given; None without."""
    tags = _TAG.findall(body)
    if not tags:
        return None
    paces = _PACE.findall(body)
    fields = (field.partition(b"=") for field in paces[-1].split()) if paces else ()
    return tags[-1].decode(), {name.decode(): int(value) for name, _, value in fields}


@cache
def place(index: int) -> str:
    """The position of a token in letters."""
    base = len(LETTERS)
    return "".join(LETTERS[index // base**power % base] for power in range(PLACE_CHARS - 1, -1, -1))


def answer(tag: str, tokens: int) -> str:
    """The whole text of ``tokens`` tokens."""
    return "".join(f"{tag}{place(index)} " for index in range(tokens))


def faults(tag: str, tokens: int, text: str) -> Counter[str]:
    """What is wrong with ``text``: ``missing``, ``doubled`` or ``foreign`` tokens, or a ``disordered`` answer."""
    whole = answer(tag, tokens)
    if text == whole:
        return Counter()
    wanted, came = Counter(whole.split()), Counter(text.split())
    found = Counter(
        missing=sum((wanted - came).values()),
        doubled=sum(count - 1 for word, count in came.items() if word in wanted and count > 1),
        foreign=sum(count for word, count in came.items() if word not in wanted),
    )
    # All are there, once each, and the text is another all the same.
    return +found or Counter(disordered=1)
