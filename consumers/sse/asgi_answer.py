"""One answer as one HTTP response: a stream of chunks, or one object.

The head waits for the stages' decision, so a refused turn has its true status. A stream that cannot go on
ends with an error frame and without ``[DONE]``: clients take a clean close for success.
"""

import asyncio
from typing import Final

import structlog

from consumers.sse import heads
from consumers.sse.asgi_client import AsgiClient
from consumers.sse.core import SseSettings, answer_too_long, not_stored_yet
from consumers.sse.frames import DONE, PING, ChunkEncoder, completion_body, error_body, error_frame
from consumers.sse.turn_progress import TurnProgress
from schemas.cursors import CursorSigner
from schemas.errors import Refusal

_OK: Final = 200
_LOG: Final = structlog.get_logger(__name__)


class AsgiAnswer:
    """Writes the answer to one turn to one client. Either method is called once."""

    def __init__(self, progress: TurnProgress, client: AsgiClient, settings: SseSettings, cursor_key: bytes) -> None:
        self._progress = progress
        self._client = client
        self._settings = settings
        self._cursor_key = cursor_key

    async def stream(self, *, include_usage: bool) -> None:
        """Write a stream of chunks as the text comes."""
        progress, client = self._progress, self._client
        refusal = await progress.head_refusal()
        if refusal is not None:
            await self._refuse(refusal)
            return
        identity = progress.identity
        await client.head(_OK, heads.stream_headers(progress.limits, identity.conversation_id))
        frames = ChunkEncoder(identity, self._signer(), include_usage=include_usage)
        await self._write_after(frames, None, first=frames.role(), include_usage=include_usage)

    async def rest(self, *, after: int | None, include_usage: bool, reconnect: bytes) -> None:
        """Write what comes after the delta ``after``, or all, as a stream that an EventSource resumes by itself."""
        progress, client = self._progress, self._client
        await client.head(_OK, heads.stream_headers(None, progress.identity.conversation_id))
        frames = ChunkEncoder(progress.identity, self._signer(), include_usage=include_usage, with_ids=True)
        first = reconnect + (frames.role() if after is None else b"")
        await self._write_after(frames, after, first=first, include_usage=include_usage, reconnect=reconnect)

    async def _write_after(
        self, frames: ChunkEncoder, after: int | None, *, first: bytes, include_usage: bool, reconnect: bytes = b""
    ) -> None:
        """Write ``first``, then the frames of all that comes after the delta ``after``, to the end of the stream.

        A view that breaks off ends with ``reconnect``, if there is one, or with the error.
        """
        progress, client = self._progress, self._client
        due = await self._stream_text(frames, -1 if after is None else after, first)
        ending = progress.ending()
        if isinstance(ending, Refusal):
            await client.body(due + (reconnect if progress.broken and reconnect else error_frame(ending)), more=False)
            return
        deltas = progress.deltas if after is None else max(progress.deltas, after)
        if after is None or after < deltas:
            due += frames.last(ending, deltas, progress.terminal_offset)
        if include_usage and ending.usage is not None:
            due += frames.usage(ending.usage)
        if not progress.settled:
            await client.body(due, more=True)
            due = b""
            await self._await_settled(PING)
        end = DONE if progress.settled else reconnect or error_frame(progress.broken or not_stored_yet())
        await client.body(due + end, more=False)

    async def whole(self) -> None:
        """Write one completion object when the answer is complete, or the error that it ended with."""
        progress = self._progress
        refusal = await progress.head_refusal()
        if refusal is not None:
            await self._refuse(refusal)
            return
        text = await self._collect_text()
        ending = progress.ending() if text is not None else answer_too_long()
        if not isinstance(ending, Refusal):
            await self._await_settled(b"")
            ending = ending if progress.settled else progress.broken or not_stored_yet()
        if isinstance(ending, Refusal):
            await self._refuse(ending)
            return
        identity = progress.identity
        body = completion_body(identity, text or "", ending)
        await self._client.whole(_OK, heads.json_headers(body, progress.limits, identity.conversation_id), body)

    async def _stream_text(self, frames: ChunkEncoder, after: int, first: bytes) -> bytes:
        """Write the text as it comes, one write per batch of events; returns the frames still due at the end."""
        progress = self._progress
        due = [first]
        while True:
            due += [frames.text(piece) for piece in progress.take_pieces() if piece.seq > after]
            if progress.over:
                return b"".join(due)
            if due:
                await self._client.body(b"".join(due), more=True)
            due = [] if await progress.advance() else [PING]

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

    async def _collect_text(self) -> str | None:
        """The text until its end, whatever that is; None when it is too long to hold."""
        progress = self._progress
        texts: list[str] = []
        chars = 0
        while True:
            for piece in progress.take_pieces():
                texts.append(piece.text)
                chars += len(piece.text)
            if chars > self._settings.answer_chars_max:
                return None
            if progress.over:
                return "".join(texts)
            await progress.advance()

    async def _refuse(self, refusal: Refusal) -> None:
        body = error_body(refusal)
        await self._client.whole(refusal.status, heads.refusal_headers(body, self._progress.limits, refusal), body)

    def _signer(self) -> CursorSigner | None:
        # A turn that was cancelled before any stage knew its owner has no text to come back for.
        cleared = self._progress.cleared
        if cleared is None:
            return None
        return CursorSigner(self._cursor_key, cleared.turn_id, cleared.tenant_id, cleared.user_id)
