"""One request to a backend, read ahead of the log within a bound."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from consumers.inference.core import Answer
from schemas.errors import Malformed, Retryable
from schemas.events import InferenceRequested
from schemas.ports import Generated, InferenceBackend


class Generation:
    """The text of one generation as it grows: what ``answer`` had, and what the backend adds.

    ``text`` and ``tokens`` are totals of the whole answer. The backend is read in a task of ``group``, which waits
    while more than ``buffered_chars_max`` characters are not yet on the log. ``on_news`` is called whenever there
    is more text, the end, or a failure. A failure of the backend is kept here and never raised into the group.
    """

    def __init__(
        self,
        *,
        group: asyncio.TaskGroup,
        backend: InferenceBackend,
        request: InferenceRequested,
        answer: Answer,
        buffered_chars_max: int,
        on_news: Callable[[], None],
    ) -> None:
        self.text = answer.text
        self.tokens = self.tokens_before = answer.tokens
        self.last: Generated | None = None
        self.failure: Retryable | Malformed | None = None
        self._sent_chars = len(answer.text)
        self._buffered_chars_max = buffered_chars_max
        self._on_news = on_news
        self._room = asyncio.Event()
        self._task = group.create_task(self._run(backend.generate(request, answer.text)))

    @property
    def ended(self) -> bool:
        """Whether the backend said why it stopped."""
        return self.last is not None and self.last.finish_reason is not None

    def continues(self, answer: Answer) -> bool:
        """Whether what is on the log is the beginning of this text, so that the rest may follow it."""
        return self.text.startswith(answer.text)

    def has_news(self, answer: Answer) -> bool:
        """Whether there is text that ``answer`` lacks, an end, or a failure."""
        return len(self.text) > len(answer.text) or self.ended or self.failure is not None

    def sent(self, answer: Answer) -> None:
        """The log now has ``answer``: make room for as much again."""
        self._sent_chars = len(answer.text)
        self._room.set()

    async def close(self) -> None:
        """Stop reading and cancel the request on the server; returns when that is done."""
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _run(self, pieces: AsyncGenerator[Generated, None]) -> None:
        try:
            # Left open it would keep its request on the GPU until the garbage collector comes by.
            async with aclosing(pieces):
                await self._pump(pieces)
        except (Retryable, Malformed) as error:
            self.failure = error
        if self.failure is None and not self.ended:
            self.failure = Retryable("the backend broke off without a finish reason")
        self._on_news()

    async def _pump(self, pieces: AsyncGenerator[Generated, None]) -> None:
        async for piece in pieces:
            self.text += piece.text
            self.tokens += piece.tokens
            self.last = piece
            self._on_news()
            if self.ended:
                return
            while len(self.text) - self._sent_chars > self._buffered_chars_max:
                self._room.clear()
                await self._room.wait()
