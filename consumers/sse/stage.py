"""Answering: open turns of this edge to their clients, cancelled when abandoned, drained at the end."""

import asyncio
from typing import Final, Literal

import structlog
from starlette.types import Receive, Send

from consumers.sse.asgi_answer import AsgiAnswer
from consumers.sse.asgi_client import AsgiClient
from consumers.sse.core import SseSettings
from consumers.sse.live_turns import LiveTurns
from consumers.sse.turn_progress import TurnProgress
from schemas import serde
from schemas.errors import Retryable
from schemas.events import Event, Turn, TurnCancelled
from schemas.ids import turn_partition
from schemas.ports import AnswerReader, Outgoing, Producer
from schemas.tokens import Cancelled
from schemas.topics import TOKENS, TURNS_CANCELLED, Topic

_LOG: Final = structlog.get_logger(__name__)


class Answers:
    """Writes answers to clients. ``run`` must be running while ``answer`` is called."""

    def __init__(self, turns: LiveTurns, producer: Producer, settings: SseSettings) -> None:
        self._turns = turns
        self._producer = producer
        self._settings = settings
        self._clients: set[AsgiClient] = set()
        self._abandoned = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._tasks: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Follow the log and watch the clients until cancelled. Raises Fatal when the log is lost."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            tasks.create_task(self._turns.run())
            tasks.create_task(self._cut_slow_clients())

    async def answer(
        self, turn: Turn, reader: AnswerReader, receive: Receive, send: Send, *, stream: bool, include_usage: bool
    ) -> None:
        """Write the whole response to ``turn``. Closes ``reader``, whatever happens."""
        settings = self._settings
        progress = TurnProgress(turn, reader, settings, self._deadline_s(turn))
        client = AsgiClient(receive, send, settings.write_seconds_max)
        answer = AsgiAnswer(progress, client, settings)
        self._enter(client)
        try:
            await client.serve(answer.stream(include_usage=include_usage) if stream else answer.whole())
            self._part(progress, client)
        finally:
            reader.close()
            self._leave(client)

    async def cancel(self, turn_id: str, reason: Literal["client", "abandoned"]) -> None:
        """Put ``Cancelled`` on the turn's log, then hint to inference. Raises OutcomeUnknown."""
        await self._append(TOKENS, turn_id, Cancelled(turn_id=turn_id, reason=reason), turn_partition(turn_id))
        _LOG.info("turn_cancelled", turn_id=turn_id, reason=reason)
        try:
            await self._append(TURNS_CANCELLED, turn_id, TurnCancelled(turn_id=turn_id, reason=reason), None)
        except Retryable as error:
            # The verdict is on the log; without the hint inference finds it a little later.
            _LOG.warning("cancel_hint_lost", turn_id=turn_id, error=type(error).__name__)

    async def drain(self, seconds: float) -> None:
        """Let open answers end for at most ``seconds``, then end their streams with an error frame.

        New turns must be refused before (``producers.ingest.admission``). Takes at most
        ``write_seconds_max`` longer.
        """
        if await self._idle_within(seconds):
            return
        _LOG.warning("drain_limit_reached", streams=len(self._clients))
        self._turns.break_off()
        await self._idle_within(self._settings.write_seconds_max)

    def _part(self, progress: TurnProgress, client: AsgiClient) -> None:
        """Decide what becomes of a turn whose client has its response, or has gone."""
        turn = progress.turn
        if client.cut_reason is not None:
            _LOG.info("client_cut", turn_id=turn.turn_id, reason=client.cut_reason)
        if progress.ended:
            return
        if progress.head_timed_out:
            # The client was told that there is no answer: nobody may be billed for one.
            self._cancel_later(turn.turn_id, 0)
        elif client.cut_reason is not None and not turn.stored:
            self._cancel_later(turn.turn_id, self._settings.abandon_grace_seconds)

    def _cancel_later(self, turn_id: str, grace_s: float) -> None:
        if self._tasks is None:
            raise RuntimeError("Answers.run is not running")
        if self._abandoned >= self._settings.abandoned_turns_max:
            grace_s = 0
        self._abandoned += 1
        self._turns.hold(turn_id)
        self._tasks.create_task(self._cancel_unless_ended(turn_id, grace_s))

    async def _cancel_unless_ended(self, turn_id: str, grace_s: float) -> None:
        try:
            await asyncio.sleep(grace_s)
            state = self._turns.state(turn_id)
            if state is None or state.terminal is None:
                await self.cancel(turn_id, "abandoned")
        except Retryable as error:
            # It then runs to its end: tokens are lost, nothing else.
            _LOG.warning("abandoned_turn_not_cancelled", turn_id=turn_id, error=type(error).__name__)
        finally:
            self._abandoned -= 1
            self._turns.release(turn_id)

    async def _append(self, topic: Topic, turn_id: str, event: Event, partition: int | None) -> None:
        record = Outgoing(
            topic=topic.name,
            key=turn_id.encode(),
            value=serde.encode(event),
            headers=serde.event_headers(topic, turn_id, self._turns.traceparent(turn_id)),
            partition=partition,
        )
        await self._producer.append([record])

    async def _cut_slow_clients(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._settings.tick_seconds)
            now_s = loop.time()
            for client in self._clients:
                client.cut_if_slow(now_s)

    async def _idle_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def _deadline_s(self, turn: Turn) -> float:
        # Both times in ``turn`` are of this process, so their difference needs no clock.
        allowed_s = (turn.deadline_ms - turn.submitted_at_ms) / 1000
        return asyncio.get_running_loop().time() + allowed_s + self._settings.deadline_grace_seconds

    def _enter(self, client: AsgiClient) -> None:
        self._clients.add(client)
        self._idle.clear()

    def _leave(self, client: AsgiClient) -> None:
        self._clients.discard(client)
        if not self._clients:
            self._idle.set()
