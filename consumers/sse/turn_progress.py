"""Waiting for a turn: for its head, its text, its end and its place in history, each within its bound."""

import asyncio
from typing import Final

import structlog

from consumers.sse.core import (
    Ending,
    SseSettings,
    Step,
    StreamBroken,
    ending_of,
    head_timeout,
    interrupted,
    limits_of,
    read_step,
    turn_timeout,
)
from schemas.errors import Refusal, Retryable
from schemas.events import RateLimits, Turn
from schemas.ports import AnswerReader

_LOG: Final = structlog.get_logger(__name__)


class TurnProgress:
    """How far one reader has come with one turn.

    ``deadline_s`` is the event loop's time after which the turn's end is not waited for.
    """

    def __init__(self, turn: Turn, reader: AnswerReader, settings: SseSettings, deadline_s: float) -> None:
        self.turn: Final = turn
        self.head_timed_out = False
        self._reader = reader
        self._settings = settings
        self._deadline_s = deadline_s
        self._step = Step()
        self._texts: list[str] = []
        self._broken: Refusal | None = None

    @property
    def ended(self) -> bool:
        """Whether the turn's terminal was seen."""
        return self._step.terminal is not None

    @property
    def over(self) -> bool:
        """Whether no more text will come to this reader, for whatever reason."""
        return self.ended or self._broken is not None or self._now_s() >= self._deadline_s

    @property
    def limits(self) -> RateLimits | None:
        """The quota to report in the head."""
        return limits_of(self._step)

    @property
    def awaits_persisted(self) -> bool:
        """Whether the turn will be in history, but is not known to be."""
        return self.turn.stored and self._step.persisted is None and self._broken is None

    def take_texts(self) -> list[str]:
        """The pieces of text that came since the last call, in order."""
        texts, self._texts = self._texts, []
        return texts

    def ending(self) -> Ending | Refusal:
        """How this reader's answer ends, once it is over."""
        if self._step.terminal is not None:
            return ending_of(self._step.terminal)
        return self._broken or turn_timeout()

    async def head_refusal(self) -> Refusal | None:
        """Wait for the stages' decision: None once the turn is cleared, else why there is no answer."""
        until_s = min(self._now_s() + self._settings.head_seconds_max, self._deadline_s)
        while self._step.cleared is None and not self.over:
            if self._now_s() >= until_s:
                break
            await self.advance(until_s)
        if self.ended or self._broken is not None:
            # A turn that fails in the same breath as it is cleared still gets its true status.
            ending = self.ending()
            return ending if isinstance(ending, Refusal) and not self._texts else None
        if self._step.cleared is not None:
            return None
        self.head_timed_out = True
        return head_timeout()

    async def await_persisted(self) -> None:
        """Wait until history contains the turn, at most ``persisted_seconds_max``."""
        until_s = self._now_s() + self._settings.persisted_seconds_max
        while self.awaits_persisted and self._now_s() < until_s:
            await self.advance(until_s)
        if self.awaits_persisted:
            _LOG.warning("done_before_persisted", turn_id=self.turn.turn_id)

    async def advance(self, until_s: float | None = None) -> bool:
        """Take the next events, waiting until ``until_s`` (or the deadline) or the next heartbeat.

        Returns whether anything happened; False means that the line was silent.
        """
        left_s = (self._deadline_s if until_s is None else until_s) - self._now_s()
        try:
            events = await self._reader.next_events(max(0.0, min(self._settings.heartbeat_seconds, left_s)))
        except StreamBroken as broken:
            self._broken = broken.refusal
            return True
        except Retryable:
            self._broken = interrupted()
            return True
        self._step = read_step(events, self._step)
        self._texts += self._step.texts
        return bool(events)

    @staticmethod
    def _now_s() -> float:
        return asyncio.get_running_loop().time()
