"""Waiting for a turn: for its head, its text, its end and its place in history, each within its bound."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import structlog

from consumers.sse.core import (
    Ending,
    Identity,
    Piece,
    SseSettings,
    Step,
    StreamBroken,
    ending_of,
    head_timeout,
    identity_of,
    interrupted,
    limits_of,
    read_step,
    turn_timeout,
)
from schemas.errors import Refusal, Retryable
from schemas.events import RateLimits
from schemas.ports import AnswerReader, Placed
from schemas.tokens import Cleared, Finished

_LOG: Final = structlog.get_logger(__name__)


def _nothing() -> None:
    return


class TurnProgress:
    """How far one reader has come with one turn.

    ``deadline_s`` is the event loop's time after which the turn's end is not waited for. ``on_started`` is called
    once, when the turn no longer waits for a GPU. ``cleared`` is given when it is known already.
    """

    __slots__ = (
        "_broken",
        "_deadline_s",
        "_loop",
        "_on_started",
        "_pieces",
        "_settings",
        "_step",
        "_stopped",
        "head_timed_out",
        "identity",
        "reader",
    )

    def __init__(
        self,
        identity: Identity,
        reader: AnswerReader,
        settings: SseSettings,
        deadline_s: float,
        *,
        cleared: Cleared | None = None,
        on_started: Callable[[], None] = _nothing,
    ) -> None:
        self.identity = identity
        self.reader: Final = reader
        self.head_timed_out = False
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._deadline_s = deadline_s
        self._on_started = on_started
        self._step = Step(cleared=cleared)
        self._pieces: list[Piece] = []
        self._broken: Refusal | None = None
        self._stopped = False

    @property
    def ended(self) -> bool:
        """Whether the turn's terminal was seen."""
        return self._step.terminal is not None

    @property
    def over(self) -> bool:
        """Whether no more text will come to this reader, for whatever reason."""
        return self._step.terminal is not None or self._broken is not None or self._now_s() >= self._deadline_s

    @property
    def cleared(self) -> Cleared | None:
        """The turn's clearance, once it is known."""
        return self._step.cleared

    @property
    def limits(self) -> RateLimits | None:
        """The quota to report in the head."""
        return limits_of(self._step)

    @property
    def broken(self) -> Refusal | None:
        """Why this reader's view ends before the turn does, if it does."""
        return self._broken

    @property
    def settled(self) -> bool:
        """Whether all is there that will be: a turn that is kept is in its history."""
        kept = self.identity.stored and self._step.cleared is not None
        return not kept or self._step.persisted is not None

    @property
    def deltas(self) -> int:
        """Deltas of the turn up to here; of an ended turn, all."""
        terminal = self._step.terminal
        return terminal.seq if isinstance(terminal, Finished) else self._step.deltas

    @property
    def terminal_offset(self) -> int:
        """Where the terminal lies, once it was seen."""
        return self._step.terminal_offset

    def take_pieces(self) -> list[Piece]:
        """The pieces of text that came since the last call, in order."""
        pieces, self._pieces = self._pieces, []
        return pieces

    def ending(self) -> Ending | Refusal:
        """How this reader's answer ends, once it is over."""
        if self._step.terminal is not None:
            return ending_of(self._step.terminal)
        return self._broken or turn_timeout()

    def note_started(self) -> None:
        """The turn waits no longer, or nobody for it; only the first call tells."""
        on_started, self._on_started = self._on_started, _nothing
        on_started()

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
            return ending if isinstance(ending, Refusal) and not self._pieces else None
        if self._step.cleared is not None:
            return None
        self.head_timed_out = True
        return head_timeout()

    async def advance(self, until_s: float | None = None, write: Callable[[], bool] | None = None) -> bool:
        """Take the next events, waiting until ``until_s`` (or the deadline) or the next heartbeat.

        Returns whether anything happened; False means that the line was silent. With ``write`` that is called when
        events have come, and the wait goes on while it returns True.
        """
        self._stopped = False
        meanwhile = None if write is None else partial(self._go_on, write)
        try:
            events = await self.reader.next_events(self._wait_s(until_s), meanwhile)
        except StreamBroken as broken:
            self._broken = broken.refusal
            return True
        except Retryable as error:
            _LOG.warning("stream_interrupted", turn_id=self.identity.turn_id, error=type(error).__name__)
            self._broken = interrupted()
            return True
        self._read(events)
        return bool(events) or self._stopped

    def _go_on(self, write: Callable[[], bool], events: Sequence[Placed]) -> float | None:
        self._read(events)
        self._stopped = not write()
        return None if self._stopped else self._wait_s()

    def _read(self, events: Sequence[Placed]) -> None:
        before = self._step
        step, pieces = read_step(events, before)
        self._step = step
        if before.cleared is None and step.cleared is not None:
            # The stages know more of it than the edge did: which model answers, and where.
            self.identity = identity_of(step.cleared, self._settings, self.identity.api)
        self._pieces += pieces
        if step.started or step.terminal is not None:
            self.note_started()

    def _wait_s(self, until_s: float | None = None) -> float:
        left_s = (self._deadline_s if until_s is None else until_s) - self._now_s()
        return max(0.0, min(self._settings.heartbeat_seconds, left_s))

    def _now_s(self) -> float:
        return self._loop.time()
