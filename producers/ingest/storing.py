"""Waiting until a turn that wants no answer is stored."""

import asyncio
from typing import Final

from producers.http.refused import RequestRefused
from schemas.errors import Retryable
from schemas.ports import AnswerReader
from schemas.tokens import Cleared, Failed, Persisted, Refused

_POLL_SECONDS_MAX: Final = 10.0


async def until_stored(reader: AnswerReader, seconds_max: float) -> Cleared:
    """The clearance of the turn, once the history shows it. Closes ``reader``.

    Raises RequestRefused when a stage said no, Retryable when it takes longer than ``seconds_max``.
    """
    cleared: Cleared | None = None
    try:
        async with asyncio.timeout(seconds_max):
            while True:
                for placed in await reader.next_events(_POLL_SECONDS_MAX):
                    match placed.event:
                        case Cleared():
                            cleared = placed.event
                        case Refused() | Failed():
                            raise RequestRefused(placed.event.refusal)
                        case Persisted() if cleared is not None:
                            return cleared
                        case _:
                            pass
    except TimeoutError:
        raise Retryable("a turn without an answer was not stored in time") from None
    finally:
        reader.close()
