"""OpenAI's stream chunks, to our terms. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic_core import from_json

from consumers.inference.failures import NotServed
from consumers.inference.like_chunks import LikeChunks
from consumers.inference.sse_lines import SseDecoder, data_of, end_of_event
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


class ChunkReading:
    """What the stream of one answer says, of as many choices as were asked for. Feed it the bytes as they come.

    It is ``over`` with ``[DONE]``, with an error of the upstream and with a chunk that is none, or larger than
    ``event_bytes_max``; what follows is not looked at.
    """

    def __init__(self, choices: int, event_bytes_max: int) -> None:
        self.over = False
        self._decoder = SseDecoder(event_bytes_max)
        self._choices = tuple(_Choice(index) for index in range(choices))
        # Of an answer with one choice.
        self._like = LikeChunks()
        self._usage: Mapping[str, Any] = {}
        self._failure: Retryable | Malformed | None = None

    def feed(self, raw: bytes) -> None:
        """What came. Text counts as one token unless its chunk says more."""
        try:
            self._read(self._decoder.feed(raw))
        except (Retryable, Malformed) as error:
            self._failure, self.over = error, True

    def take(self) -> list[Generated]:
        """What was said since the last call: one step for each choice that said anything."""
        return [choice.take() for choice in self._choices if choice.tokens]

    def end(self) -> list[Generated]:
        """The last step of each choice, with its reason; totals are in the last.

        Raises Retryable for an error that may pass, and without a reason: the answer broke off. Raises Malformed for
        a rejection.
        """
        if self._failure is not None:
            raise self._failure
        if any(choice.reason is None for choice in self._choices):
            raise Retryable("the upstream ended without a finish reason")
        *firsts, last = self._choices
        details = self._usage.get("prompt_tokens_details")
        totals = Generated(
            text="",
            tokens=0,
            finish_reason=last.reason,
            prompt_tokens=_count(self._usage.get("prompt_tokens")),
            completion_tokens=_count(self._usage.get("completion_tokens")),
            cached_tokens=_count(details.get("cached_tokens")) if isinstance(details, dict) else None,
            choice=last.index,
        )
        return [*(Generated(text="", tokens=0, finish_reason=one.reason, choice=one.index) for one in firsts), totals]

    def _read(self, events: str) -> None:
        at = 0
        while at < len(events) and not self.over:
            run = self._like.run(events, at)
            if run is not None and run.text is not None:
                self._choices[0].say(run.text, run.chunks)
                at = run.end
                continue
            stop = run.end if run is not None else end_of_event(events, at)
            for data in data_of(events[at:stop]):
                self._read_chunk(data)
            at = stop

    def _read_chunk(self, data: str) -> None:
        if self.over:
            return
        if data == DONE:
            self.over = True
            return
        chunk = _object(data)
        if chunk.get("error"):
            raise _error(chunk["error"])
        usage, choices = chunk.get("usage"), chunk.get("choices")
        if isinstance(usage, dict):
            self._usage = usage
        texts = []
        for said in choices if isinstance(choices, list) else ():
            index = _count(said.get("index", 0)) if isinstance(said, dict) else None
            if index is not None and index < len(self._choices):
                texts.append(self._choices[index].hear(said))
        if len(self._choices) == len(texts) == 1 and texts[0]:
            self._like.learn(data, texts[0])


class _Choice:
    """What is known of one choice, and was not told yet."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.reason: str | None = None
        self._forget()

    def _forget(self) -> None:
        self.tokens = 0
        self._text = ""
        self._calls: list[ToolCallDelta] = []
        self._logprobs: list[TokenLogprob] = []

    def say(self, text: str, tokens: int) -> None:
        """Tokens that are text and nothing else."""
        self._text += text
        self.tokens += tokens

    def hear(self, said: Mapping[str, Any]) -> str | None:
        """What one chunk says of it. Returns its text if that is all that counts."""
        reason, delta, scored = said.get("finish_reason"), said.get("delta"), said.get("logprobs")
        if isinstance(reason, str):
            self.reason = reason
        if not isinstance(delta, dict):
            return None
        text, called = _text(delta.get("content")), delta.get("tool_calls")
        calls = list(_calls(called)) if called else ()
        logprobs = list(_logprobs(scored)) if scored else ()
        if not calls and not logprobs:
            if text:
                self.say(text, 1)
            return text
        self._text += text or ""
        self.tokens += len(logprobs) or 1
        self._calls += calls
        self._logprobs += logprobs
        return None

    def take(self) -> Generated:
        """All that was not told yet."""
        step = Generated(
            text=self._text,
            tokens=self.tokens,
            choice=self.index,
            tool_calls=tuple(self._calls),
            logprobs=tuple(self._logprobs),
        )
        self._forget()
        return step


def _object(data: str) -> Mapping[str, Any]:
    try:
        chunk = from_json(data)
    except ValueError:
        raise Retryable("the upstream sent a chunk that is no JSON") from None
    if not isinstance(chunk, dict):
        raise Retryable("the upstream sent a chunk that is no object")
    return chunk


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
