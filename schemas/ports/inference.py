"""Servers that generate text."""

from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from schemas.events import Decision, InferenceRequested
from schemas.generation import TokenLogprob, ToolCallDelta


class Generated(NamedTuple):
    """One step of generation: the next piece of text, and at the end why it ended.

    ``prompt_tokens`` and ``completion_tokens`` are totals of the engine's own count where it reports them. With
    several choices every step belongs to one, and so does its reason; the totals come with the last.
    """

    text: str
    tokens: int
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    choice: int = 0
    tool_calls: tuple[ToolCallDelta, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()


class Feed(Protocol):
    """What has come of an answer, and the hand on what is still to come."""

    @property
    def over(self) -> bool:
        """Whether all was said: the last steps, or the failure, come from the backend without delay."""
        ...

    def take(self) -> Sequence[Generated]:
        """All that came since the last time, in one step for each choice. If that is nothing, the pause ends."""
        ...

    def pause(self) -> None:
        """Nobody is to be told of what comes, until somebody looks with ``take``: it may wait at the server."""
        ...


class _NoFeed:
    """The feed of an answer of which nothing can come yet."""

    over: Final = False

    def take(self) -> Sequence[Generated]:
        return ()

    def pause(self) -> None:
        pass


_NO_FEED: Final = _NoFeed()


class Pile:
    """Where a backend that need not be read all the time keeps what has come of an answer.

    Whoever reads the answer makes it with what to call when there is something to take, which may be in vain, and
    takes it from the ``feed``, which the backend sets. One of several servers sets ``server``, its address for logs.
    """

    def __init__(self, on_more: Callable[[], None]) -> None:
        self.on_more = on_more
        self.feed: Feed = _NO_FEED
        self.server: str | None = None


class InferenceBackend(Protocol):
    """A server that generates text: Triton or an OpenAI-compatible upstream."""

    def generate(
        self, request: InferenceRequested, prefix: str, pile: Pile | None = None, /
    ) -> AsyncGenerator[Generated, None]:
        """Stream the answer to the prompt, continuing after ``prefix``.

        With a ``pile``, a backend may leave steps to be taken from there, all but the last of each choice. It yields
        those that nobody took before the end, or before it fails.
        Closing the iterator cancels the generation on the server. Raises Retryable when the server cannot be
        reached or breaks off, Malformed when it rejects the request for good.
        """
        ...

    async def ready(self) -> bool:
        """Whether the server would take a request now."""
        ...

    async def close(self) -> None:
        """Close the connections to the server."""
        ...


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the policy says about a text."""

    decision: Decision
    categories: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()


class OutputPolicy(Protocol):
    """Moderation of an answer while it is written."""

    version: str

    def judge_output(self, text: str, before: str = "") -> Verdict:
        """The verdict on ``text``, the next piece of an answer; ``before`` is the end of what was judged. Pure."""
        ...


class InputPolicy(Protocol):
    """Moderation of what users write."""

    version: str

    def judge_input(self, texts: Iterable[str]) -> Verdict:
        """The verdict on texts that belong together. Pure, and linear in their length."""
        ...
