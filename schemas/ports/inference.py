"""Servers that generate text."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias

from schemas.events import Decision, InferenceRequested
from schemas.generation import TokenLogprob, ToolCallDelta

# Returns once more of an answer is wanted.
Wanted: TypeAlias = Callable[[], Awaitable[object]]


async def at_once() -> None:
    """More is always wanted."""


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


class InferenceBackend(Protocol):
    """A server that generates text: Triton or an OpenAI-compatible upstream."""

    def generate(
        self, request: InferenceRequested, prefix: str, wanted: Wanted = at_once, /
    ) -> AsyncGenerator[Generated, None]:
        """Stream the answer to the prompt, continuing after ``prefix``.

        After each step, a backend that can let the answer pile up reads on only when ``wanted`` returns, and tells
        all that came meanwhile in one step. Others may take no notice.
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

    def judge_output(self, text: str) -> Verdict:
        """The verdict on the answer so far. Pure."""
        ...


class InputPolicy(Protocol):
    """Moderation of what users write."""

    version: str

    def judge_input(self, texts: Iterable[str]) -> Verdict:
        """The verdict on texts that belong together. Pure, and linear in their length."""
        ...
