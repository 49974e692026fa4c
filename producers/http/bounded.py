"""What a process remembers of clients, within bounds: nobody can fill its memory."""

from collections import OrderedDict
from typing import Any


def forget_oldest(entries: OrderedDict[Any, Any], entries_max: int) -> None:
    """Leave at most ``entries_max`` of ``entries``: the first ones go."""
    while len(entries) > entries_max:
        entries.popitem(last=False)
