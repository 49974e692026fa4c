"""The pieces of an answer on their way to the log, from beat to beat, without the task of its turn."""

import asyncio

from consumers.inference import core
from consumers.inference.generation import Generation
from consumers.inference.pieces import Piece, verdict_on
from consumers.inference.turn_clock import TurnClock
from consumers.inference.turn_log import TurnLog
from consumers.inference.turn_ports import TurnPorts
from schemas.errors import OutcomeUnknown


class Streaming:
    """Posts one piece of an answer after another, for as long as there is nothing else to decide.

    Thousands of pieces a second pass here: plain functions, called by the beat and by what landed (ADR 33).
    Whatever is no piece from the middle of an answer wakes the task of the turn, which finds all that it needs in the
    turn itself.
    """

    def __init__(self, ports: TurnPorts, pool: str, log: TurnLog, clock: TurnClock) -> None:
        self._ports = ports
        self._settings = ports.settings
        self._pool = pool
        self._log = log
        self._clock = clock
        self._generation: Generation
        self._interrupted: asyncio.Future[None]

    def go(self, generation: Generation, pieces: tuple[Piece, ...]) -> "asyncio.Future[None]":
        """Post ``pieces``, and then what follows. Done when the task has to look; fails with OutcomeUnknown."""
        self._generation = generation
        self._interrupted = asyncio.get_running_loop().create_future()
        self._post(pieces)
        return self._interrupted

    def _post(self, pieces: tuple[Piece, ...]) -> None:
        self._generation.pause()
        self._log.post(pieces, self._landed)

    def _landed(self, *, known: bool) -> None:
        if known:
            self._generation.sent(self._log.answer)
            self._ports.beats.rest(core.beat_ms(self._ports.in_flight(), self._settings), self._go_on)
        elif not self._interrupted.done():
            self._interrupted.set_exception(OutcomeUnknown("nobody knows whether a piece is on the log"))

    def _go_on(self) -> None:
        if self._interrupted.done():
            # The task was cancelled.
            return
        try:
            pieces = self._next()
            if pieces:
                self._post(pieces)
            else:
                self._interrupted.set_result(None)
        except Exception as error:  # noqa: BLE001 - the task raises it; the other turns of the beat go on
            self._interrupted.set_exception(error)

    def _next(self) -> tuple[Piece, ...]:
        """The next piece of each choice; none when the task has to look."""
        if self._clock.over or self._clock.hinted or self._log.silent:
            return ()
        generation, answer = self._generation, self._log.answer
        pieces = generation.unsent(answer, self._settings.delta_chars_max)
        if not pieces or generation.ended or generation.ending:
            return ()
        self._ports.succeed(self._pool)
        verdict = verdict_on(self._ports.policy, answer, pieces, self._settings.policy_window_chars_max)
        return pieces if verdict is None else ()
