"""One answer as one HTTP response: a stream of chunks, or one object.

The head waits for the stages' decision, so a refused turn has its true status. A stream that cannot go on
ends with an error frame and without ``[DONE]``: clients take a clean close for success.
"""

import asyncio
from functools import partial
from typing import Final

import structlog

from consumers.sse import heads
from consumers.sse.asgi_client import AsgiClient
from consumers.sse.composition import Composition
from consumers.sse.core import SseSettings, answer_too_long, not_stored_yet
from consumers.sse.encoding import PING, StreamEncoder, error_body
from consumers.sse.forms import encoder_of, object_of
from consumers.sse.response_objects import response_in_progress, response_json
from consumers.sse.stream_watch import StreamWatch
from consumers.sse.turn_progress import TurnProgress
from schemas.cursors import CursorSigner
from schemas.errors import Refusal
from schemas.events import RateLimits
from schemas.ports import RestForm

_OK: Final = 200
_LOG: Final = structlog.get_logger(__name__)


class AsgiAnswer:
    """Writes the answer to one turn to one client. Either method is called once."""

    __slots__ = ("_client", "_cursor_key", "_now_s", "_progress", "_settings", "_waiting_since_s", "_watch")

    def __init__(
        self, progress: TurnProgress, client: AsgiClient, settings: SseSettings, cursor_key: bytes, watch: StreamWatch
    ) -> None:
        self._progress = progress
        self._client = client
        self._settings = settings
        self._cursor_key = cursor_key
        self._watch = watch
        self._now_s = asyncio.get_running_loop().time
        self._waiting_since_s = 0.0

    async def stream(self, *, include_usage: bool) -> None:
        """Write a stream of events as the text comes."""
        progress = self._progress
        refusal = await progress.head_refusal()
        if refusal is not None:
            await self._refuse(refusal)
            return
        await self._head(progress.limits)
        form = RestForm(progress.identity.api, include_usage=include_usage)
        await self._write(encoder_of(progress.identity, form, self._signer()), b"", b"")

    async def rest(self, form: RestForm, reconnect: bytes) -> None:
        """Write what comes after a place, or all, as a stream that can be picked up again.

        A view that breaks off ends with ``reconnect``, if there is one, or with the error.
        """
        await self._head(None)
        frames = encoder_of(self._progress.identity, form, self._signer())
        await self._write(frames, reconnect, reconnect)

    async def begun(self) -> None:
        """Write the object of a turn that has begun and does not keep its client waiting."""
        progress = self._progress
        refusal = await progress.head_refusal()
        if refusal is not None:
            await self._refuse(refusal)
            return
        await self._write_object(response_json(response_in_progress(progress.identity, "queued")))

    async def whole(self) -> None:
        """Write one object when the answer is complete, or the error that it ended with."""
        progress = self._progress
        refusal = await progress.head_refusal()
        if refusal is not None:
            await self._refuse(refusal)
            return
        answer = await self._collect()
        ending = progress.ending() if answer is not None else answer_too_long()
        if not isinstance(ending, Refusal):
            await self._await_settled(b"")
            ending = ending if progress.settled else progress.broken or not_stored_yet()
        if answer is None or isinstance(ending, Refusal):
            await self._refuse(ending if isinstance(ending, Refusal) else answer_too_long())
            return
        await self._write_object(object_of(progress.identity, answer, ending))

    async def _write(self, frames: StreamEncoder, first: bytes, reconnect: bytes) -> None:
        """Write ``first``, then the frames of the turn, to the end of the stream."""
        progress, client = self._progress, self._client
        try:
            due = await self._stream_text(frames, first + frames.opening())
        finally:
            self._watch.ended()
        ending = progress.ending()
        if isinstance(ending, Refusal):
            if not (progress.broken and reconnect):
                self._watch.failed(ending)
            if progress.broken:
                due += reconnect or frames.broken(ending)
            else:
                due += frames.failed(ending)
            await client.body(due, more=False)
            return
        due += frames.ending(ending, progress.deltas, progress.terminal_offset)
        if not progress.settled:
            await client.body(due, more=True)
            due = b""
            await self._await_settled(PING)
        end = frames.settled() if progress.settled else reconnect or self._broken_end(frames)
        await client.body(due + end, more=False)

    def _broken_end(self, frames: StreamEncoder) -> bytes:
        cause = self._progress.broken or not_stored_yet()
        self._watch.failed(cause)
        return frames.broken(cause)

    async def _stream_text(self, frames: StreamEncoder, first: bytes) -> bytes:
        """Write the text as it comes, one write per batch of events; returns the frames still due at the end.

        While the client keeps up, whoever brings the events writes them: waking this task would cost more than that.
        """
        progress = self._progress
        write = partial(self._write_news, frames)
        due = first
        while True:
            due += self._news(frames)
            if progress.over:
                return due
            if due:
                await self._client.body(due, more=True)
                # Not kept while the stream waits.
                due = b""
            self._waiting_since_s = self._now_s()
            if not await progress.advance(write=write):
                due = PING
            self._note_wait()

    def _write_news(self, frames: StreamEncoder) -> bool:
        """Write the pieces that came, if that is all there is to do."""
        if self._progress.over or not self._client.ready:
            return False
        self._note_wait()
        news = self._news(frames)
        if news:
            self._client.write_piece(news)
        return True

    def _news(self, frames: StreamEncoder) -> bytes:
        pieces = self._progress.take_pieces()
        if not pieces:
            return b""
        self._watch.text(self._now_s())
        return b"".join([frames.piece(piece) for piece in pieces])

    def _note_wait(self) -> None:
        since_s, self._waiting_since_s = self._waiting_since_s, self._now_s()
        self._watch.waited(self._waiting_since_s - since_s)

    async def _await_settled(self, heartbeat: bytes) -> None:
        """Wait until history contains the turn, at most ``persisted_seconds_max``."""
        progress = self._progress
        loop = asyncio.get_running_loop()
        until_s = loop.time() + self._settings.persisted_seconds_max
        while not progress.settled and progress.broken is None and loop.time() < until_s:
            if not await progress.advance(until_s) and heartbeat:
                await self._client.body(heartbeat, more=True)
        if not progress.settled:
            _LOG.warning("answer_not_stored_in_time", turn_id=progress.identity.turn_id)

    async def _collect(self) -> Composition | None:
        """The answer until its end, whatever that is; None when it is too long to hold."""
        progress = self._progress
        answer = Composition()
        while True:
            for piece in progress.take_pieces():
                answer.add(piece)
            if answer.chars > self._settings.answer_chars_max:
                return None
            if progress.over:
                return answer
            await progress.advance()

    async def _head(self, limits: RateLimits | None) -> None:
        await self._client.head(_OK, heads.stream_headers(limits, self._progress.identity.conversation_id))

    async def _write_object(self, body: bytes) -> None:
        progress = self._progress
        headers = heads.json_headers(body, progress.limits, progress.identity.conversation_id)
        await self._client.whole(_OK, headers, body)

    async def _refuse(self, refusal: Refusal) -> None:
        body = error_body(refusal)
        await self._client.whole(refusal.status, heads.refusal_headers(body, self._progress.limits, refusal), body)

    def _signer(self) -> CursorSigner | None:
        # A turn that was cancelled before any stage knew its owner has no text to come back for.
        cleared = self._progress.cleared
        if cleared is None:
            return None
        return CursorSigner(self._cursor_key, cleared.turn_id, cleared.tenant_id, cleared.user_id)
