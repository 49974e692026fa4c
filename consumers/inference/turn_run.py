"""One owner's work on one turn: from its first fence to the terminal and the bill.

It owns the turn through ``TurnLog``, reads the backend through ``Generation`` and asks ``core`` what everything means.
Whenever it is in doubt (an append with unknown outcome, a cancel hint, a long silence of its own) it fences
again and believes the log.
"""

import asyncio
from collections.abc import Awaitable
from contextlib import suppress

import structlog

from consumers.inference import core, failures, turn_outcome
from consumers.inference.answer import can_go_on, handed_on
from consumers.inference.generation import Generation
from consumers.inference.outage import Circumstances, Outage, Reaction, after_failure, pause_ms, react
from consumers.inference.pieces import Piece, grow, verdict_on
from consumers.inference.streaming import Streaming
from consumers.inference.turn_clock import TurnClock
from consumers.inference.turn_log import Displaced, TurnLog
from consumers.inference.turn_ports import TurnPorts
from schemas.errors import OutcomeUnknown, Refusal, Retryable
from schemas.events import FinishReason, InferenceRequested, ModerationDecided
from schemas.tokens import Terminal, TokenEvent
from schemas.topics import INFERENCE_REQUESTS

_log = structlog.get_logger()


class TurnRun:
    """Run once; every method below ``run`` is one of its moves."""

    def __init__(self, ports: TurnPorts, request: InferenceRequested, log: TurnLog) -> None:
        self._ports = ports
        self._settings = ports.settings
        self._request = request
        self._turn = request.turn
        self._log = log
        self._clock = TurnClock(request.turn.deadline_ms - ports.now_ms())
        self._streaming = Streaming(ports, request.pool, log, self._clock)
        self._generation: Generation | None = None
        self._generations = 0
        self._started_s = 0.0
        self._outage: Outage | None = None
        self._blocked: ModerationDecided | None = None
        # Where the turn goes when its pool cannot begin, and whether it went.
        self._elsewhere = core.next_route(request)
        self._shut_out = False
        self._gone = False

    def on_hint(self) -> None:
        """Somebody says that the turn was cancelled."""
        self._clock.hint()

    async def run(self) -> None:
        """Bring the turn to its end. Raises Retryable."""
        try:
            async with asyncio.TaskGroup() as group:
                self._start_early(group)
                try:
                    found_ended = await self._bring_to_its_end(group)
                finally:
                    await self._close()
        except ExceptionGroup as failures:
            # The task of the generation keeps its failures to itself, so this is the one of the run itself.
            raise failures.exceptions[0] from None
        finally:
            self._clock.close()
        if not self._gone:
            await self._tell(found_ended=found_ended)

    def _start_early(self, group: asyncio.TaskGroup) -> None:
        """Let the prefill of a young turn overlap its fence."""
        now = self._ports.now_ms()
        self._shut_out = self._elsewhere is not None and not self._ports.breaker.allows(self._clock.now_s)
        if not self._clock.over and not self._shut_out and core.looks_fresh(self._request, now, self._settings):
            self._start(group)

    async def _tell(self, *, found_ended: bool) -> None:
        """Bill the turn, and tell operators of it."""
        pool, turn_id = self._request.pool, self._turn.turn_id
        usage = core.usage_recorded(self._request, self._log.answer, self._ports.billing)
        # A terminal that was found, not written here, is billed again: perhaps nobody did.
        records = turn_outcome.bills(self._log, usage, turn_id, self._blocked)
        if records:
            await self._log.append((), records)
        if usage is None or found_ended:
            turn_outcome.report_ended_before(turn_id, pool)
        else:
            turn_outcome.report(usage, pool, self._ports.metrics)

    async def _bring_to_its_end(self, group: asyncio.TaskGroup) -> bool:
        """Own the turn until it has a terminal; whether that is somebody else's. Raises Retryable."""
        for _ in range(self._settings.fences_per_claim_max):
            try:
                await self._claim()
                found_ended = self._log.answer.ended
                self._gone = handed_on(self._request, self._log.answer) and not found_ended
                while not self._log.answer.ended and not self._gone:
                    await self._next_move(group)
            except Displaced:
                self._blocked = None
                await self._close()
                await self._stand_back()
                if self._log.answer.ended:
                    return True
            else:
                return found_ended
        raise Retryable("other owners began again and again")

    # --- the moves ---------------------------------------------------------------------------------------

    def _next_move(self, group: asyncio.TaskGroup) -> Awaitable[None]:
        """Whatever is most urgent."""
        answer, generation = self._log.answer, self._generation
        if self._clock.over:
            return self._fail(failures.deadline_exceeded())
        if self._clock.hinted:
            self._clock.hinted = False
            return self._log.look()
        if generation is None or not generation.continues(answer):
            return self._restart(group)
        self._clock.listen()
        pieces = generation.unsent(answer, self._settings.delta_chars_max)
        if generation.ending:
            # What is left of it then leaves with its end.
            return self._clock.news()
        if pieces or generation.ended:
            return self._send(generation, pieces)
        return self._clock.news() if generation.failure is None else self._recover(generation)

    async def _restart(self, group: asyncio.TaskGroup) -> None:
        await self._close()
        answer = self._log.answer
        if not can_go_on(self._request, answer):
            await self._fail(failures.rejected(failures.PrefixUnsupported("begun, and no text alone")))
        elif core.with_budget(self._request, answer) is None:
            usage = core.measure(self._request.prompt, 0, (), answer.tokens)
            await self._end(core.finished(answer, self._turn.turn_id, (FinishReason.LENGTH,), usage))
        elif self._shut_out and not answer.begun:
            await self._go_elsewhere()
        elif self._generations >= self._settings.generations_per_turn_max:
            await self._fail(failures.upstream_unavailable())
        else:
            self._start(group)

    async def _send(self, generation: Generation, pieces: tuple[Piece, ...]) -> None:
        self._ports.succeed(self._request.pool)
        if await self._log.look_if_silent():
            return
        answer = self._log.answer
        verdict = verdict_on(self._ports.policy, answer, pieces, self._settings.policy_window_chars_max)
        if verdict is not None:
            version, now = self._ports.policy.version, self._ports.now_ms()
            self._blocked = core.output_blocked(self._request, verdict, version, now)
            filtered = (FinishReason.CONTENT_FILTER,) * self._turn.generation.n
            await self._finish(generation, filtered, ())
            return
        if generation.ended and not generation.unsent(grow(answer, pieces, self._ports.now_ms()), 1):
            reasons = core.finish_reasons(generation.reasons, generation.choices, self._turn.generation.n)
            await self._finish(generation, reasons, core.deltas(answer, self._turn.turn_id, pieces))
        else:
            await self._known(self._streaming.go(generation, pieces))
        generation.sent(self._log.answer)

    async def _recover(self, generation: Generation) -> None:
        cause, now_s, breaker = generation.failure, self._clock.now_s, self._ports.breaker
        outage = self._outage = after_failure(self._outage, self._log.answer, now_s)
        _log.warning(
            "generation_failed",
            turn_id=self._turn.turn_id,
            pool=self._request.pool,
            generation=self._generations,
            server=generation.server,
            cause=type(cause).__name__,
            error=str(cause),
        )
        await self._close()
        waited = not generation.begun and (now_s - self._started_s) * 1000 >= self._settings.fallback_ms_max
        if not generation.begun and isinstance(cause, Retryable | failures.NotServed):
            breaker.fail(now_s, slowly=waited)
            self._ports.metrics.gauge("turnstream_pool_breaker_open", breaker.open, pool=self._request.pool)
        movable = self._elsewhere is not None and not self._log.answer.begun
        around = Circumstances(movable, breaker.open, waited, self._generations, now_s)
        match react(outage, cause, around, self._settings):
            case Reaction.GO_ELSEWHERE:
                await self._go_elsewhere()
            case Reaction.GIVE_UP:
                await self._fail(failures.refusal(cause))
            case Reaction.TRY_AGAIN:
                self._clock.listen()
                await self._clock.wait(pause_ms(outage, self._turn.turn_id, self._settings))

    async def _go_elsewhere(self) -> None:
        """Give the turn to the next pool. If this is repeated, the fence there decides as it does here."""
        if self._elsewhere is None or await self._log.look_if_silent():
            return
        topic = INFERENCE_REQUESTS[self._elsewhere.pool]
        request = core.handed_over(self._request, self._elsewhere)
        record = self._log.record(topic, self._turn.conversation_id, request)
        await self._log.append((), (record,))
        self._gone = True
        pool, to = self._request.pool, self._elsewhere.pool
        self._ports.metrics.count("turnstream_fallbacks_total", pool=pool, to=to)
        _log.warning("turn_handed_over", turn_id=self._turn.turn_id, pool=pool, to=to)

    # --- the generation ------------------------------------------------------------------------------------

    def _start(self, group: asyncio.TaskGroup) -> None:
        answer = self._log.answer
        request = core.with_budget(self._request, answer) or self._request
        self._generations += 1
        self._started_s = self._clock.now_s
        self._generation = Generation(
            group=group,
            backend=self._ports.backend,
            request=request,
            answer=answer,
            buffered_chars_max=self._settings.buffered_chars_max,
            on_news=self._clock.wake,
        )

    async def _close(self) -> None:
        if self._generation is not None:
            await self._generation.close()
            self._generation = None

    # --- the log ---------------------------------------------------------------------------------------------

    async def _claim(self) -> None:
        lost = await self._log.claim()
        if lost:
            self._ports.metrics.count("turnstream_fenced_attempts_total", lost, pool=self._request.pool)

    async def _stand_back(self) -> None:
        """Leave the turn to the other owner, until it is ended or makes no more progress. Raises Retryable.

        A replaced member of the group is told so meanwhile, which cancels this. One that is not, and sees the other
        fall silent, is the one to go on.
        """
        self._ports.metrics.count("turnstream_fenced_attempts_total", pool=self._request.pool)
        _log.warning("owner_displaced", turn_id=self._turn.turn_id, pool=self._request.pool)
        for _ in range(self._settings.stand_backs_max):
            before = self._log.answer.state
            await asyncio.sleep(self._settings.stand_back_ms / 1000)
            with suppress(Displaced):
                await self._log.look()
            if self._log.answer.ended or self._log.answer.state == before:
                return

    async def _known(self, appended: Awaitable[None]) -> None:
        """Wait for what is ``appended``; if nobody knows whether it is on the log, the log says it."""
        try:
            await appended
        except OutcomeUnknown:
            await self._log.look()
            # What may still land must not count after what is read now.
            if not self._log.answer.ended:
                await self._claim()

    async def _finish(
        self, generation: Generation, reasons: tuple[FinishReason, ...], piece: tuple[TokenEvent, ...]
    ) -> None:
        last = () if generation.last is None else (generation.last,)
        usage = core.measure(self._request.prompt, generation.tokens_before, last, generation.tokens)
        terminal = core.finished(self._log.answer, self._turn.turn_id, reasons, usage, deltas=len(piece))
        await self._end(terminal, piece)

    async def _fail(self, refusal: Refusal) -> None:
        await self._close()
        if await self._log.look_if_silent():
            return
        await self._end(core.failed(self._log.answer, self._turn.turn_id, refusal))

    async def _end(self, terminal: Terminal, piece: tuple[TokenEvent, ...] = ()) -> None:
        """The last piece and the terminal. Only the log knows whether it counts, and what is to be billed."""
        await self._known(self._log.append((*piece, terminal)))
        await self._log.look_back()
