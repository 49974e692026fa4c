"""Turns by whose names stores and partitions can be asked. Others are dead letters, before anybody is asked."""

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from schemas.errors import Malformed
from schemas.events import Turn
from schemas.ids import CONVERSATION_PREFIX
from schemas.ports import Outcome, Received

# 128 bits in Crockford's base 32, as `schemas.ids` writes them: decoding costs three times as much, for every record.
_ID: Final = "[0-7][0-9a-hjkmnp-tv-z]{25}"
_TURN_ID: Final = re.compile(_ID)
_CONVERSATION_ID: Final = re.compile(re.escape(CONVERSATION_PREFIX) + _ID)
# As long as the time in an id is: what is later fits neither there nor into the stores' timestamps.
_TIME_MS_MAX: Final = (1 << 48) - 1


async def over_well_formed(
    batch: Sequence[Received[Any]], process: Callable[[Sequence[Received[Any]]], Awaitable[Sequence[Outcome]]]
) -> Sequence[Outcome]:
    """One outcome per event of ``batch``, each of which has a ``turn``: Malformed, or what ``process`` makes of it."""
    defects = [defect(received.event.turn) for received in batch]
    if not any(defects):
        return await process(batch)
    fit = [received for received, found in zip(batch, defects, strict=True) if found is None]
    outcomes = iter(await process(fit))
    return [found or next(outcomes) for found in defects]


def defect(turn: Turn) -> Malformed | None:
    """What is wrong with the names and times of ``turn``, without repeating them."""
    if not _TURN_ID.fullmatch(turn.turn_id):
        return Malformed("turn.turn_id is not a turn id")
    if not _CONVERSATION_ID.fullmatch(turn.conversation_id):
        return Malformed("turn.conversation_id is not a conversation id")
    if turn.submitted_at_ms > _TIME_MS_MAX:
        return Malformed("turn.submitted_at_ms is not a time")
    return None
