"""Answering: open turns of this edge to their clients, cancelled when abandoned, drained at the end."""

import asyncio
import math
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final

import structlog

from consumers.sse import heads
from consumers.sse.asgi_answer import AsgiAnswer
from consumers.sse.asgi_client import AsgiClient
from consumers.sse.cancellation import Cancellation, CancelReason
from consumers.sse.core import SseSettings, identity_of
from consumers.sse.encoding import reconnect_frame
from consumers.sse.live_turns import LiveTurns
from consumers.sse.response_objects import response_in_progress, response_json
from consumers.sse.stored_stream import stored_object, stored_stream
from consumers.sse.stream_watch import StreamWatch, submitted_s
from consumers.sse.turn_progress import TurnProgress
from schemas.events import Turn
from schemas.ports import AnswerForm, AnswerReader, ClientChannel, Producer, RestForm, StoredAnswer
from schemas.tokens import Cleared

_LOG: Final = structlog.get_logger(__name__)
_OK: Final = 200


class Answers:
    """Writes answers to clients. ``run`` must be running while they are written.

    ``on_started`` gets a turn id when a turn of ``answer`` no longer waits for a GPU, whatever the reason.
    ``chance`` gives numbers in [0, 1), ``now_ms`` Unix milliseconds.
    """

    def __init__(
        self,
        turns: LiveTurns,
        producer: Producer,
        settings: SseSettings,
        *,
        cursor_key: bytes,
        on_started: Callable[[str], None],
        chance: Callable[[], float],
        now_ms: Callable[[], int],
    ) -> None:
        self._turns = turns
        self._cancellation = Cancellation(turns, producer, settings)
        self._settings = settings
        self._cursor_key = cursor_key
        self._on_started = on_started
        self._chance = chance
        self._now_ms = now_ms
        self._clients: set[AsgiClient] = set()
        # Streams that their clients can pick up elsewhere.
        self._movable: dict[AnswerReader, None] = {}
        self._idle = asyncio.Event()
        self._idle.set()

    async def run(self) -> None:
        """Follow the log and watch the clients until cancelled. Raises Fatal when the log is lost."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._turns.run())
            tasks.create_task(self._cancellation.run())
            tasks.create_task(self._cut_slow_clients())

    async def answer(self, turn: Turn, reader: AnswerReader, channel: ClientChannel, form: AnswerForm) -> None:
        """Write the whole response to ``turn``. Closes ``reader``, whatever happens."""
        # Both times are of this process, so their difference needs no clock.
        seconds_max = (turn.deadline_ms - turn.submitted_at_ms) / 1000 + self._settings.deadline_grace_seconds
        progress = TurnProgress(
            identity_of(turn, self._settings),
            reader,
            self._settings,
            asyncio.get_running_loop().time() + seconds_max,
            on_started=partial(self._on_started, turn.turn_id),
        )
        begun_s = submitted_s(turn, self._now_ms, asyncio.get_running_loop().time())
        client, answer = self._begin(progress, channel, begun_s)
        if form.stream:
            writing = answer.stream(include_usage=form.include_usage)
        else:
            writing = answer.begun() if form.background else answer.whole()
        # It may take minutes: no question waits for its answer in memory.
        del turn
        try:
            await self._serve(client, progress, writing, movable=form.stream)
        finally:
            progress.note_started()
            if progress.over and not progress.ended and progress.broken is None:
                _LOG.error("turn_unterminated", turn_id=progress.identity.turn_id)
                self._turns.metrics.count("turnstream_unterminated_turns_total", seen_by="edge")

    async def resume(self, cleared: Cleared, reader: AnswerReader, channel: ClientChannel, form: RestForm) -> None:
        """Write what comes after a place, or all. Closes ``reader``, whatever happens."""
        until_s = asyncio.get_running_loop().time() + self._settings.resume_seconds_max
        identity = identity_of(cleared, self._settings, form.api)
        progress = TurnProgress(identity, reader, self._settings, until_s, cleared=cleared)
        client, answer = self._begin(progress, channel)
        reconnect = self._reconnect() if form.with_ids else b""
        await self._serve(client, progress, answer.rest(form, reconnect), movable=True)

    async def replay(self, stored: StoredAnswer, channel: ClientChannel, form: RestForm) -> None:
        """Write the same from the store."""
        body = stored_stream(stored, self._settings, self._cursor_key, form)
        client = AsgiClient(channel, self._settings.write_seconds_max)
        self._enter(client)
        try:
            await client.serve(client.whole(_OK, heads.stream_headers(None, stored.conversation_id), body))
        finally:
            self._leave(client)

    def show(self, stored: StoredAnswer) -> bytes:
        """The whole answer as the object of its API, as JSON, from the store."""
        return stored_object(stored, self._settings)

    def show_running(self, cleared: Cleared, status: str) -> bytes:
        """The response of a turn that is not over, as JSON, with that status."""
        return response_json(response_in_progress(identity_of(cleared, self._settings), status))

    async def cancel(self, turn_id: str, reason: CancelReason) -> None:
        """Put ``Cancelled`` on the turn's log, then hint to inference. Raises OutcomeUnknown."""
        await self._cancellation.cancel(turn_id, reason)

    async def drain(self, seconds: float) -> None:
        """Let open answers end for at most ``seconds``.

        Streams can be picked up elsewhere: after an undisturbed part of the time they are told to, one after the
        other, so that their clients do not come back all at once. What is left at the end is broken off. New turns
        must be refused before (``producers.ingest.admission``). Takes at most ``write_seconds_max`` longer.
        """
        settings = self._settings
        if await self._idle_within(seconds * settings.drain_undisturbed_share):
            return
        moving_s = seconds * settings.drain_moving_share
        steps = max(1, math.ceil(moving_s / settings.tick_seconds))
        for step in range(steps):
            streams = tuple(self._movable)
            self._turns.break_off(streams[: math.ceil(len(streams) / (steps - step))])
            if await self._idle_within(moving_s / steps):
                return
        if await self._idle_within(seconds * max(0.0, 1 - settings.drain_undisturbed_share) - moving_s):
            return
        _LOG.warning("drain_limit_reached", answers=len(self._clients))
        self._turns.break_off_all()
        await self._idle_within(settings.write_seconds_max)

    def _begin(
        self, progress: TurnProgress, channel: ClientChannel, begun_s: float | None = None
    ) -> tuple[AsgiClient, AsgiAnswer]:
        client = AsgiClient(channel, self._settings.write_seconds_max)
        watch = StreamWatch(self._turns.metrics, self._settings, begun_s)
        return client, AsgiAnswer(progress, client, self._settings, self._cursor_key, watch)

    async def _serve(
        self, client: AsgiClient, progress: TurnProgress, writing: Coroutine[Any, Any, None], *, movable: bool
    ) -> None:
        self._enter(client)
        if movable:
            self._movable[progress.reader] = None
        try:
            await client.serve(writing)
        finally:
            self._movable.pop(progress.reader, None)
            # Before the close: the turn's state goes with its last reader, unless what is decided here holds it.
            self._part(progress, client)
            progress.reader.close()
            self._leave(client)

    def _part(self, progress: TurnProgress, client: AsgiClient) -> None:
        """Decide what becomes of a turn whose client has its response, or has gone."""
        turn_id = progress.identity.turn_id
        if client.cut_reason is not None:
            _LOG.info("client_cut", turn_id=turn_id, reason=client.cut_reason)
        if progress.ended:
            return
        if progress.head_timed_out:
            # The client was told that there is no answer: nobody may be billed for one.
            self._cancellation.cancel_later(turn_id, 0)
        elif client.cut_reason is not None and not progress.identity.stored:
            self._cancellation.cancel_later(turn_id, self._settings.abandon_grace_seconds)

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

    def _reconnect(self) -> bytes:
        return reconnect_frame(round(self._settings.reconnect_ms * (1 + self._chance())))

    def _enter(self, client: AsgiClient) -> None:
        self._clients.add(client)
        self._idle.clear()

    def _leave(self, client: AsgiClient) -> None:
        self._clients.discard(client)
        if not self._clients:
            self._idle.set()
