"""Hears the hints of ``chat.turns.cancelled.v1`` and passes them to the turns that generate here."""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from schemas import serde
from schemas.errors import Malformed, Retryable
from schemas.events import TurnCancelled
from schemas.ports import LogTail, Record
from schemas.topics import TURNS_CANCELLED

HINTS_PER_POLL_MAX: Final = 500
POLL_WAIT_S_MAX: Final = 1.0
RETRY_S: Final = 1.0

_log = structlog.get_logger()


class CancelListener:
    """Follows the hints through a ``LogTail`` on that topic. Hints of turns that run elsewhere are dropped.

    A hint is never a verdict: whoever hears one looks for ``Cancelled`` on the tokens topic. A hint that came
    before its turn started here is not missed either: a starting turn reads the tokens topic first.
    """

    def __init__(self, tail: LogTail) -> None:
        self._tail = tail
        self._watched: dict[str, list[Callable[[], None]]] = {}

    def watch(self, turn_id: str, on_hint: Callable[[], None]) -> None:
        """Call ``on_hint`` (in the event loop, at once) for every hint about the turn, until ``unwatch``."""
        self._watched.setdefault(turn_id, []).append(on_hint)

    def unwatch(self, turn_id: str, on_hint: Callable[[], None]) -> None:
        """Call ``on_hint`` no more."""
        callbacks = self._watched[turn_id]
        callbacks.remove(on_hint)
        if not callbacks:
            del self._watched[turn_id]

    async def run(self) -> None:
        """Listen until cancelled. While the log cannot be read, hints are late; that is no reason to stop."""
        while True:
            try:
                records = await self._tail.poll(HINTS_PER_POLL_MAX, POLL_WAIT_S_MAX)
            except Retryable:
                _log.warning("cancel_hints_unreadable")
                await asyncio.sleep(RETRY_S)
                continue
            for record in records:
                self._pass_on(record)

    def _pass_on(self, record: Record) -> None:
        try:
            hint: TurnCancelled = serde.decode(TURNS_CANCELLED, record.value)
        except Malformed:
            _log.warning("cancel_hint_unreadable", partition=record.partition, offset=record.offset)
            return
        for on_hint in tuple(self._watched.get(hint.turn_id, ())):
            on_hint()
