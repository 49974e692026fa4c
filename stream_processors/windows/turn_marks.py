"""Which turns were counted already, in few bytes: the state of a busy user goes to a changelog with every batch. Pure.

A mark is 12 characters for 72 bits of a turn id's BLAKE2 hash: that two of 500 turns in one window share one, and one
of them is not counted, has a chance of less than 1 in 10^16. Marks are kept in one text, each with a space behind it.
"""

from base64 import urlsafe_b64encode
from hashlib import blake2b
from typing import Final

_BYTES: Final = 9
_WIDTH: Final = 13


def turn_mark(turn_id: str) -> str:
    """The mark of a turn: 12 characters, none of them a space."""
    return urlsafe_b64encode(blake2b(turn_id.encode(), digest_size=_BYTES).digest()).decode()


def marks(seen: str | list[str]) -> str:
    """What is kept as marks, also where an older version kept ids."""
    return seen if isinstance(seen, str) else "".join(f"{turn_mark(turn_id)} " for turn_id in seen)


def remember(seen: str, mark: str, turns_max: int) -> str:
    """``seen`` with one more mark, unless it is full."""
    return seen if len(seen) >= turns_max * _WIDTH else f"{seen}{mark} "


def remember_newest(seen: str, mark: str, turns_max: int) -> str:
    """``seen`` with one more mark, without the oldest if it was full."""
    return f"{seen}{mark} "[-turns_max * _WIDTH :]
