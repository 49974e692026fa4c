"""One owner's work on one turn: from its first fence to the terminal and the bill.

It owns the turn through ``TurnLog``, reads the backend through ``Generation`` and asks ``core`` what everything means.
Whenever it is in doubt (an append with unknown outcome, a cancel hint, a long silence of its own) it fences
again and believes the log.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import structlog

from consumers.inference import core, turn_outcome
from consumers.inference.core import InferenceSettings
from consumers.inference.generation import Generation
from consumers.inference.outage import Outage, after_failure, gives_up, pause_ms
from consumers.inference.turn_log import Displaced, TurnLog
from schemas.errors import Malformed, OutcomeUnknown, Refusal, Retryable
from schemas.events import Decision, FinishReason, InferenceRequested, ModerationDecided
from schemas.ports import InferenceBackend, Metrics, OutputPolicy
from schemas.tokens import Terminal, TokenEvent

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class TurnPorts:
    """What every run of a process shares. ``in_flight`` says how many turns generate now."""

    backend: InferenceBackend
    policy: OutputPolicy
    metrics: Metrics
    now_ms: Callable[[], int]
    in_flight: Callable[[], int]
    settings: InferenceSettings


class TurnRun:
    """Run once; every method below ``run`` is one of its moves."""

    def __init__(self, ports: TurnPorts, request: InferenceRequested, log: TurnLog) -> None:
        self._ports = ports
        self._settings = ports.settings
        self._request = request
        self._turn = request.turn
        self._log = log
        self._news = asyncio.Event()
        self._hinted = False
        self._generation: Generation | None = None
        self._generations = 0
        self._outage: Outage | None = None
        self._blocked: ModerationDecided | None = None
        self._verified_at_ms = 0
        self._appended_at_s = 0.0
        self._deadline_s = 0.0

    def on_hint(self) -> None:
        """Somebody says that the turn was cancelled."""
        self._hinted = True
        self._news.set()

    async def run(self) -> None:
        """Bring the turn to its end. Raises Retryable."""
        try:
            async with asyncio.TaskGroup() as group:
                await self._answer(group)
        except ExceptionGroup as failures:
            # The task of the generation keeps its failures to itself, so this is the one of the run itself.
            raise failures.exceptions[0] from None

    async def _answer(self, group: asyncio.TaskGroup) -> None:
        now = self._ports.now_ms()
        # From here on the monotonic clock counts: a step of the wall clock must not end a turn.
        self._deadline_s = self._monotonic_s() + (self._turn.deadline_ms - now) / 1000
        if self._left_ms() > 0 and core.looks_fresh(self._request, now, self._settings):
            self._start(group)
        try:
            found_ended = await self._bring_to_its_end(group)
        finally:
            await self._close()
        await self._bill()
        turn_outcome.report(self._log, self._request, self._ports.metrics, found_ended=found_ended)

    async def _bring_to_its_end(self, group: asyncio.TaskGroup) -> bool:
        """Own the turn until it has a terminal; whether that is somebody else's. Raises Retryable."""
        for _ in range(self._settings.fences_per_claim_max):
            try:
                await self._claim()
                found_ended = self._log.answer.ended
                while not self._log.answer.ended:
                    await self._step(group)
            except Displaced:
                self._blocked = None
                await self._close()
                await self._stand_back()
                if self._log.answer.ended:
                    return True
            else:
                return found_ended
        raise Retryable("other owners began again and again")

    # --- one step: whatever is most urgent ---------------------------------------------------------------

    async def _step(self, group: asyncio.TaskGroup) -> None:
        answer, generation = self._log.answer, self._generation
        if self._left_ms() <= 0:
            await self._fail(core.deadline_exceeded())
        elif self._hinted:
            self._hinted = False
            await self._look()
        elif generation is None or not generation.continues(answer):
            await self._restart(group)
        elif not generation.has_news(answer):
            await self._wait(self._left_ms(), until=generation)
        elif len(generation.text) > len(answer.text) or generation.ended:
            await self._send(generation)
        else:
            await self._recover(generation)

    async def _restart(self, group: asyncio.TaskGroup) -> None:
        await self._close()
        if core.with_budget(self._request, self._log.answer) is None:
            usage = core.measure(self._request.prompt, 0, (), self._log.answer.tokens)
            await self._end(core.finished(self._log.answer, self._turn.turn_id, FinishReason.LENGTH, usage))
        elif self._generations >= self._settings.generations_per_turn_max:
            await self._fail(core.upstream_unavailable())
        else:
            self._start(group)

    async def _send(self, generation: Generation) -> None:
        if not generation.ended and self._log.answer.state.next_seq > 0:
            await self._coalesce()
        if await self._verify_if_silent():
            return
        answer = self._log.answer
        text, tokens = core.unsent(answer, generation.text, generation.tokens, self._settings.delta_chars_max)
        verdict = self._ports.policy.judge_output(core.policy_window(answer, text, self._settings))
        if verdict.decision is not Decision.ALLOWED:
            version, now = self._ports.policy.version, self._ports.now_ms()
            self._blocked = core.output_blocked(self._request, verdict, version, now)
            await self._finish(generation, FinishReason.CONTENT_FILTER, ())
            return
        piece = (core.delta(answer, self._turn.turn_id, text, tokens),) if text else ()
        if generation.ended and len(answer.text) + len(text) == len(generation.text):
            reported = generation.last.finish_reason if generation.last else None
            await self._finish(generation, core.finish_reason(reported), piece)
        else:
            await self._append(piece)
        generation.sent(self._log.answer)

    async def _recover(self, generation: Generation) -> None:
        cause = generation.failure
        outage = self._outage = after_failure(self._outage, self._log.answer, self._monotonic_s())
        _log.warning(
            "generation_failed",
            turn_id=self._turn.turn_id,
            pool=self._request.pool,
            generation=self._generations,
            cause=type(cause).__name__,
        )
        await self._close()
        if isinstance(cause, Malformed):
            await self._fail(core.rejected(cause))
        elif gives_up(outage, self._generations, self._monotonic_s(), self._settings):
            await self._fail(core.upstream_unavailable())
        else:
            await self._wait(min(pause_ms(outage, self._turn.turn_id, self._settings), self._left_ms()))

    # --- the generation ------------------------------------------------------------------------------------

    def _start(self, group: asyncio.TaskGroup) -> None:
        answer = self._log.answer
        request = core.with_budget(self._request, answer) or self._request
        self._generations += 1
        self._generation = Generation(
            group=group,
            backend=self._ports.backend,
            request=request,
            answer=answer,
            buffered_chars_max=self._settings.buffered_chars_max,
            on_news=self._news.set,
        )

    async def _close(self) -> None:
        if self._generation is not None:
            await self._generation.close()
            self._generation = None

    async def _wait(self, wait_ms: float, until: Generation | None = None) -> None:
        """Sleep until news, a hint or ``wait_ms``."""
        self._news.clear()
        if self._hinted or (until is not None and until.has_news(self._log.answer)):
            return
        try:
            async with asyncio.timeout(max(0.0, wait_ms) / 1000):
                await self._news.wait()
        except TimeoutError:
            return

    def _left_ms(self) -> float:
        return (self._deadline_s - self._monotonic_s()) * 1000

    @staticmethod
    def _monotonic_s() -> float:
        return asyncio.get_running_loop().time()

    async def _coalesce(self) -> None:
        pause_s = core.pause_ms(self._ports.in_flight(), self._settings) / 1000
        rest_s = self._appended_at_s + pause_s - self._monotonic_s()
        if rest_s > 0:
            await asyncio.sleep(rest_s)

    # --- the log ---------------------------------------------------------------------------------------------

    async def _claim(self) -> None:
        started = self._ports.now_ms()
        lost = await self._log.claim()
        self._verified_at_ms = started
        if lost:
            self._ports.metrics.count("turnstream_fenced_attempts_total", lost, pool=self._request.pool)

    async def _look(self) -> None:
        started = self._ports.now_ms()
        await self._log.look()
        self._verified_at_ms = started

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

    async def _verify_if_silent(self) -> bool:
        """Look before writing if this process may have been stopped for so long that another owner began."""
        now, limit = self._ports.now_ms(), self._settings.unverified_ms_max
        if now - self._verified_at_ms <= limit:
            return False
        await self._look()
        return True

    async def _append(self, events: tuple[TokenEvent, ...]) -> None:
        started = self._ports.now_ms()
        try:
            await self._log.append(events)
        except OutcomeUnknown:
            await self._look()
            # What may still land must not count after what is read now.
            if not self._log.answer.ended:
                await self._claim()
            return
        self._verified_at_ms = started
        self._appended_at_s = self._monotonic_s()

    async def _finish(self, generation: Generation, reason: FinishReason, piece: tuple[TokenEvent, ...]) -> None:
        last = () if generation.last is None else (generation.last,)
        usage = core.measure(self._request.prompt, generation.tokens_before, last, generation.tokens)
        after = self._log.answer
        for event in piece:
            after = core.fold(after, event, self._ports.now_ms())
        await self._end(core.finished(after, self._turn.turn_id, reason, usage), piece)

    async def _fail(self, refusal: Refusal) -> None:
        await self._close()
        if await self._verify_if_silent():
            return
        await self._end(core.failed(self._log.answer, self._turn.turn_id, refusal))

    async def _end(self, terminal: Terminal, piece: tuple[TokenEvent, ...] = ()) -> None:
        """The last piece and the terminal. Only the log knows whether it counts, and what is to be billed."""
        await self._append((*piece, terminal))
        await self._look()

    async def _bill(self) -> None:
        # A terminal that was found, not written here, is billed again: perhaps nobody did.
        records = turn_outcome.bills(self._log, self._request, self._blocked)
        if records:
            await self._log.append((), records)
