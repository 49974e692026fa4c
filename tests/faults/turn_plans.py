"""What the clients of a run ask, and how badly they behave: drawn from the seed and the number of the turn. Pure."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from tests.faults.demo_model import expected_answer

MODEL: Final = "turnstream-fast"


class Manner(StrEnum):
    """How a client behaves during one turn."""

    PLAIN = "plain"
    CUT = "cut"
    """Hangs up at a byte of its choice, and resumes."""
    TWINS = "twins"
    """Sends the same request to both edges at once."""
    BUSY = "busy"
    """Posts another turn into the conversation while the first runs."""
    CANCEL = "cancel"
    SLOW = "slow"
    ATTACH = "attach"
    """A second reader resumes the turn while the first reads."""


MANNERS: Final[Mapping[Manner, int]] = {
    Manner.PLAIN: 38,
    Manner.CUT: 26,
    Manner.TWINS: 8,
    Manner.BUSY: 8,
    Manner.CANCEL: 6,
    Manner.SLOW: 6,
    Manner.ATTACH: 8,
}
STORED_SHARE: Final = 0.7
WHOLE_SHARE: Final = 0.2
COUNTED_SHARE: Final = 0.5
NEW_CONVERSATION_SHARE: Final = 0.25
TOKENS_MIN: Final = 20
TOKENS_MAX: Final = 80
GAP_MS_MIN: Final = 20
GAP_MS_MAX: Final = 40
FIRST_MS_MAX: Final = 150
CUTS_MAX: Final = 3
# A frame is about 300 bytes, so cuts fall before, inside and after frames, and inside characters.
CUT_BYTES_MAX: Final = 12_000
# No number of bytes: the client hangs up when it has the finish reason and has not read [DONE].
BEFORE_DONE: Final = -1
_STREAMED_ONLY: Final = frozenset({Manner.CUT, Manner.SLOW, Manner.CANCEL, Manner.ATTACH, Manner.BUSY})
_WORDS: Final = ("größer", "naïve", "東京", "день", "🙂🙃", "e\u0301te\u0301", "\u2028", "señal", "abc", "straße")


@dataclass(frozen=True, slots=True)
class TurnPlan:
    """One turn. ``cuts`` are the body bytes after which a connection is dropped, one per connection, in order;
    ``starts_new`` asks for a new conversation; ``pieces_before`` is when the second act of a manner begins.
    """

    number: int
    manner: Manner
    key: str
    prompt: str
    stored: bool
    stream: bool
    starts_new: bool
    edge: int
    cuts: tuple[int, ...]
    pieces_before: int
    second_prompt: str


def plan_turn(seed: int, number: int) -> TurnPlan:
    """The turn ``number`` of the run with this seed."""
    rng = random.Random(f"turn-{seed}-{number}")
    manner = rng.choices(list(MANNERS), list(MANNERS.values()))[0]
    stored = manner is Manner.BUSY or rng.random() < STORED_SHARE
    stream = manner in _STREAMED_ONLY or rng.random() >= WHOLE_SHARE
    key = f"key-{seed}-{number}"
    counted = stored or rng.random() < COUNTED_SHARE
    # Long enough that somebody gets in its way.
    tokens_min = TOKENS_MAX if manner is Manner.BUSY else TOKENS_MIN
    prompt = _prompt(rng, key, tokens_min if counted else None)
    return TurnPlan(
        number=number,
        manner=manner,
        key=key,
        prompt=prompt,
        stored=stored,
        stream=stream,
        starts_new=rng.random() < NEW_CONVERSATION_SHARE,
        edge=rng.randrange(2),
        cuts=_cuts(rng) if manner is Manner.CUT else (),
        pieces_before=rng.randint(1, TOKENS_MIN // 4),
        second_prompt=_prompt(rng, f"{key}-busy", TOKENS_MIN),
    )


def key_of_prompt(prompt: str) -> str | None:
    """The key with which a prompt of these plans is sent."""
    return next((word.removeprefix("tag:") for word in prompt.split() if word.startswith("tag:")), None)


def expected(prompt: str) -> str:
    """The model's whole answer to a prompt of these plans."""
    return expected_answer(prompt)


def _prompt(rng: random.Random, key: str, tokens_min: int | None) -> str:
    """A counted answer does not depend on the conversation; without it, the prompt's characters come back."""
    pace = f"first_ms={rng.randint(10, FIRST_MS_MAX)} gap_ms={rng.randint(GAP_MS_MIN, GAP_MS_MAX)}"
    if tokens_min is not None:
        pace += f" tokens={rng.randint(tokens_min, TOKENS_MAX)}"
    words = " ".join(rng.choices(_WORDS, k=rng.randint(3, 12)))
    return f"[[demo {pace}]] tag:{key} {words}"


def _cuts(rng: random.Random) -> tuple[int, ...]:
    # Before the first byte, inside the first frame, anywhere, between the last token and [DONE].
    places = (0, rng.randint(1, 400), rng.randint(1, CUT_BYTES_MAX), rng.randint(1, CUT_BYTES_MAX), BEFORE_DONE)
    return tuple(rng.choice(places) for _ in range(rng.randint(1, CUTS_MAX)))
