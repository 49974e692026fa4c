"""OpenAI's stream chunks, to our terms. Pure."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from consumers.inference.failures import NotServed
from schemas.content import Content
from schemas.errors import Malformed, Retryable
from schemas.generation import TokenLogprob, ToolCallDelta, TopLogprob
from schemas.ports import Generated

DONE: Final = "[DONE]"
# No client asks for as many at once; an upstream that counts on is not to be followed.
CALLS_MAX: Final = 128
_NOT_SERVED: Final = frozenset({"authentication_error", "permission_error", "not_found_error"})
# What stands for a probability of nothing: OpenAI's own lower bound.
_LOGPROB_MIN: Final = -9999.0


@dataclass(frozen=True, slots=True)
class Ending:
    """What is known so far of how the answer ends; ``reasons`` by choice, of ``choices``."""

    choices: int = 1
    reasons: Mapping[int, str] = field(default_factory=dict)
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None

    def pieces(self) -> Iterator[Generated]:
        """The last piece of each choice; totals are in the last. Raises Retryable without a reason: it broke off."""
        if len(self.reasons) < self.choices:
            raise Retryable("the upstream ended without a finish reason")
        for choice in range(self.choices):
            piece = Generated(text="", tokens=0, finish_reason=self.reasons.get(choice, "stop"), choice=choice)
            if choice == self.choices - 1:
                piece = replace(
                    piece,
                    prompt_tokens=self.prompt_tokens,
                    completion_tokens=self.completion_tokens,
                    cached_tokens=self.cached_tokens,
                )
            yield piece


def read_chunk(data: str, end: Ending) -> tuple[tuple[Generated, ...], Ending]:
    """One chunk: what it adds (text counts as one token unless it says more), and what is now known of the end.

    Raises Retryable for an error that may pass and for what is no chunk at all; Malformed for a rejection.
    """
    try:
        chunk = json.loads(data)
    except ValueError:
        raise Retryable("the upstream sent a chunk that is no JSON") from None
    if not isinstance(chunk, dict):
        raise Retryable("the upstream sent a chunk that is no object")
    if chunk.get("error"):
        raise _error(chunk["error"])
    end = _with_usage(chunk.get("usage"), end)
    pieces = []
    choices = chunk.get("choices")
    for said in choices if isinstance(choices, list) else ():
        index = _count(said.get("index", 0)) if isinstance(said, dict) else None
        if index is None or index >= end.choices:
            continue
        if isinstance(said.get("finish_reason"), str):
            end = replace(end, reasons={**end.reasons, index: said["finish_reason"]})
        piece = _piece(index, said)
        if piece is not None:
            pieces.append(piece)
    return tuple(pieces), end


def _piece(index: int, said: Mapping[str, Any]) -> Generated | None:
    delta = said.get("delta")
    if not isinstance(delta, dict):
        return None
    text = delta.get("content")
    text = text if isinstance(text, str) else ""
    called, scored = delta.get("tool_calls"), said.get("logprobs")
    calls = tuple(_calls(called)) if called else ()
    logprobs = tuple(_logprobs(scored)) if scored else ()
    if not text and not calls and not logprobs:
        return None
    return Generated(text=text, tokens=len(logprobs) or 1, choice=index, tool_calls=calls, logprobs=logprobs)


def _calls(calls: Any) -> Iterator[ToolCallDelta]:
    for position, call in enumerate(calls if isinstance(calls, list) else ()):
        if not isinstance(call, dict):
            continue
        index = _count(call.get("index"))
        if index is not None and index >= CALLS_MAX:
            continue
        function = call.get("function")
        function = function if isinstance(function, dict) else {}
        arguments = _text(function.get("arguments"))
        yield ToolCallDelta(
            index=position if index is None else index,
            id=_text(call.get("id")) or None,
            name=_text(function.get("name")) or None,
            arguments=None if arguments is None else Content(arguments),
        )


def _logprobs(logprobs: Any) -> Iterator[TokenLogprob]:
    tokens = logprobs.get("content") if isinstance(logprobs, dict) else None
    for one in tokens if isinstance(tokens, list) else ():
        if isinstance(one, dict) and isinstance(one.get("token"), str):
            tops = one.get("top_logprobs")
            top = tuple(
                TopLogprob(token=Content(other["token"]), logprob=_logprob(other.get("logprob")))
                for other in (tops if isinstance(tops, list) else ())
                if isinstance(other, dict) and isinstance(other.get("token"), str)
            )
            yield TokenLogprob(token=Content(one["token"]), logprob=_logprob(one.get("logprob")), top=top)


def _logprob(value: Any) -> float:
    return max(_LOGPROB_MIN, float(value)) if isinstance(value, int | float) else _LOGPROB_MIN


def _with_usage(usage: Any, end: Ending) -> Ending:
    if not isinstance(usage, dict):
        return end
    details = usage.get("prompt_tokens_details")
    return replace(
        end,
        prompt_tokens=_count(usage.get("prompt_tokens")),
        completion_tokens=_count(usage.get("completion_tokens")),
        cached_tokens=_count(details.get("cached_tokens")) if isinstance(details, dict) else None,
    )


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and value >= 0 else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _error(error: Any) -> Retryable | Malformed:
    kind = error.get("type") if isinstance(error, dict) else None
    if kind in _NOT_SERVED:
        return NotServed("the upstream does not serve the model inside the stream")
    if kind == "invalid_request_error":
        return Malformed("the upstream rejected the request inside the stream")
    return Retryable("the upstream failed inside the stream")
