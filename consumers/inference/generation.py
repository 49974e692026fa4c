"""One request to a backend, read ahead of the log within a bound."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from consumers.inference.answer import Answer, Choice, with_choice
from consumers.inference.pieces import Piece, unsent
from schemas.errors import Malformed, Retryable
from schemas.events import InferenceRequested
from schemas.ports import Generated, InferenceBackend, Pile


class Generation:
    """The answer of one generation as it grows: what ``answer`` had, and what the backend adds.

    ``choices`` are totals of the whole answer. The backend is read in a task of ``group``, which waits
    while more than ``buffered_chars_max`` characters are not yet on the log; what a backend lets pile up
    counts once it was read. ``on_news`` is called whenever there is more, the end, or a failure. A failure of the
    backend is kept here and never raised into the group.
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
        self.choices: tuple[Choice, ...] = answer.choices
        self.reasons: dict[int, str] = {}
        self.tokens_before = answer.tokens
        self.last: Generated | None = None
        self.failure: Retryable | Malformed | None = None
        self._wanted = request.turn.generation.n
        self._sent = answer
        self._buffered_chars_max = buffered_chars_max
        self._on_news = on_news
        self._room = asyncio.Event()
        self._pile = Pile(on_news)
        self._task = group.create_task(self._run(backend.generate(request, answer.text, self._pile)))

    @property
    def tokens(self) -> int:
        """Completion tokens of all choices."""
        return sum(choice.tokens for choice in self.choices)

    @property
    def chars(self) -> int:
        """Characters of all choices."""
        return sum(choice.chars for choice in self.choices)

    @property
    def ended(self) -> bool:
        """Whether the backend said of every choice why it stopped."""
        return len(self.reasons) >= self._wanted

    @property
    def ending(self) -> bool:
        """Whether all was said, and its end is only to be told: ``on_news`` follows at once."""
        return self._pile.feed.over and not (self.ended or self.failure or self._full)

    @property
    def _full(self) -> bool:
        return self.chars - self._sent.chars > self._buffered_chars_max

    @property
    def begun(self) -> bool:
        """Whether the backend has said anything."""
        return self.last is not None

    @property
    def server(self) -> str | None:
        """The address of the server that was asked, for logs; None where the backend tells none."""
        return self._pile.server

    def choice(self, index: int) -> Choice:
        """The choice at ``index``, empty before its first piece."""
        return self.choices[index] if index < len(self.choices) else Choice()

    def continues(self, answer: Answer) -> bool:
        """Whether what is on the log is the beginning of this answer, so that the rest may follow it."""
        for index, choice in enumerate(answer.choices):  # noqa: SIM110 - for every piece, and nearly always once
            if not choice.begins(self.choice(index)):
                return False
        return True

    def unsent(self, answer: Answer, chars_max: int) -> tuple[Piece, ...]:
        """The next pieces that ``answer`` lacks; what has piled up is read when there are no others."""
        pieces = unsent(answer, self.choices, chars_max)
        if not pieces:
            for step in self._pile.feed.take():
                self._add(step)
            pieces = unsent(answer, self.choices, chars_max)
        return pieces

    def pause(self) -> None:
        """Nobody is told of more until that is looked for: what comes meanwhile is then read in one."""
        self._pile.feed.pause()

    def sent(self, answer: Answer) -> None:
        """The log now has ``answer``: make room for as much again."""
        self._sent = answer
        self._room.set()

    async def close(self) -> None:
        """Stop reading and cancel the request on the server; returns when that is done."""
        if self._task.cancel():
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
            self._add(piece)
            self._on_news()
            if self.ended:
                return
            while self._full:
                self._room.clear()
                await self._room.wait()

    def _add(self, step: Generated) -> None:
        grown = self.choice(step.choice).add(step.text, step.tokens, step.tool_calls, step.logprobs)
        self.choices = with_choice(self.choices, step.choice, grown)
        if step.finish_reason is not None:
            self.reasons[step.choice] = step.finish_reason
        self.last = step
