"""One answer as one HTTP response: a stream of chunks, or one object.

The head waits for the stages' decision, so a refused turn has its true status. A stream that cannot go on
ends with an error frame and without ``[DONE]``: clients take a clean close for success.
"""

from typing import Final

from consumers.sse import heads
from consumers.sse.asgi_client import AsgiClient
from consumers.sse.core import SseSettings, answer_too_long
from consumers.sse.frames import DONE, PING, ChunkEncoder, Identity, completion_body, error_body, error_frame
from consumers.sse.turn_progress import TurnProgress
from schemas.errors import Refusal
from schemas.ids import public_turn_id

_OK: Final = 200


class AsgiAnswer:
    """Writes the answer to one turn to one client. Either method is called once."""

    def __init__(self, progress: TurnProgress, client: AsgiClient, settings: SseSettings) -> None:
        self._progress = progress
        self._client = client
        self._settings = settings
        turn = progress.turn
        self._identity = Identity(
            public_id=public_turn_id(turn.turn_id),
            created_s=turn.submitted_at_ms // 1000,
            model=turn.model,
            system_fingerprint=settings.system_fingerprint,
            conversation_id=turn.conversation_id if turn.stored else None,
        )

    async def stream(self, *, include_usage: bool) -> None:
        """Write a stream of chunks as the text comes."""
        progress, client = self._progress, self._client
        refusal = await progress.head_refusal()
        if refusal is not None:
            await self._refuse(refusal)
            return
        await client.head(_OK, heads.stream_headers(progress.limits, self._identity.conversation_id))
        frames = ChunkEncoder(self._identity, include_usage=include_usage)
        due = await self._stream_text(frames)
        ending = progress.ending()
        if isinstance(ending, Refusal):
            await client.body(due + error_frame(ending), more=False)
            return
        due += frames.last(ending)
        if include_usage and ending.usage is not None:
            due += frames.usage(ending.usage)
        if progress.awaits_persisted:
            await client.body(due, more=True)
            due = b""
            await progress.await_persisted()
        await client.body(due + DONE, more=False)

    async def whole(self) -> None:
        """Write one completion object when the answer is complete, or the error that it ended with."""
        progress = self._progress
        refusal = await progress.head_refusal()
        if refusal is not None:
            await self._refuse(refusal)
            return
        text = await self._collect_text()
        ending = progress.ending() if text is not None else answer_too_long()
        if isinstance(ending, Refusal):
            await self._refuse(ending)
            return
        await progress.await_persisted()
        body = completion_body(self._identity, text or "", ending)
        await self._client.whole(_OK, heads.json_headers(body, progress.limits, self._identity.conversation_id), body)

    async def _stream_text(self, frames: ChunkEncoder) -> bytes:
        """Write the text as it comes, one write per batch of events; returns the frames still due at the end."""
        progress = self._progress
        due = [frames.role()]
        while True:
            due += [frames.text(text) for text in progress.take_texts()]
            if progress.over:
                return b"".join(due)
            if due:
                await self._client.body(b"".join(due), more=True)
            due = [] if await progress.advance() else [PING]

    async def _collect_text(self) -> str | None:
        """The text until its end, whatever that is; None when it is too long to hold."""
        progress = self._progress
        pieces: list[str] = []
        chars = 0
        while True:
            texts = progress.take_texts()
            pieces += texts
            chars += sum(map(len, texts))
            if chars > self._settings.answer_chars_max:
                return None
            if progress.over:
                return "".join(pieces)
            await progress.advance()

    async def _refuse(self, refusal: Refusal) -> None:
        body = error_body(refusal)
        await self._client.whole(refusal.status, heads.refusal_headers(body, self._progress.limits, refusal), body)
