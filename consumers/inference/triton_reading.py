"""What one generation's responses mean: text up to a stop word, tool calls in it, log probabilities. Pure."""

import hashlib
from collections.abc import Callable
from typing import Final

from consumers.inference.chat_template import Template
from consumers.inference.spelling import SpelledTokens
from consumers.inference.stop_words import StopFilter
from consumers.inference.tool_calls import BareCalls, CallParser, MarkedCalls, Said
from consumers.inference.tool_markup import offered, one_call_only
from consumers.inference.triton_requests import answer_opening, stop_words
from schemas.events import InferenceRequested
from schemas.ports import Generated

_CALL_ID_CHARS: Final = 24


class TritonReading:
    """Feed it the text and the log probability of each response, one token each."""

    def __init__(self, request: InferenceRequested, prefix: str, template: Template, choice: int) -> None:
        generation = request.turn.generation
        self._choice = choice
        self._budget = request.prompt.max_tokens
        self._stops = StopFilter(stop_words(request, template), prefix)
        self._parser: CallParser | None = None
        self._one_call = one_call_only(generation)
        if offered(generation):
            marked = template is Template.CHATML
            name_call = _call_ids(request.turn.turn_id, choice)
            self._parser = MarkedCalls(name_call) if marked else BareCalls(name_call, begun=bool(prefix))
        # Comes back with the first token: before it nothing was answered.
        self._opening = answer_opening(request, prefix, template)
        self._tokens = 0
        self._spelled = SpelledTokens(generation.top_logprobs) if generation.logprobs else None

    @property
    def over(self) -> bool:
        """Whether the answer has ended, whatever the model still says."""
        return self._stops.matched or self._enough_calls

    def take(self, text: str, logprob: float | None) -> Generated:
        """One more token."""
        self._tokens += 1
        if self._spelled is not None and logprob is not None:
            self._spelled.add(text, logprob)
        passed = self._stops.feed(text)
        opening, self._opening = self._opening, ""
        return self._said(self._read(opening + passed), tokens=1)

    def end(self) -> Generated:
        """What was held back, and why the answer ended."""
        said = self._read(self._stops.flush())
        if self._parser is not None and not self._enough_calls:
            rest = self._parser.flush()
            said = Said(said.text + rest.text, said.calls + rest.calls)
        ran_out = self._tokens >= self._budget and not self.over
        return self._said(said, tokens=0, finish_reason="length" if ran_out else "stop")

    @property
    def _enough_calls(self) -> bool:
        return self._one_call and self._parser is not None and self._parser.calls > 0

    def _read(self, text: str) -> Said:
        return Said(text) if self._parser is None else self._parser.feed(text)

    def _said(self, said: Said, tokens: int, finish_reason: str | None = None) -> Generated:
        logprobs = () if self._spelled is None else self._spelled.release(said.text, call=bool(said.calls))
        return Generated(
            text=said.text,
            tokens=tokens,
            finish_reason=finish_reason,
            choice=self._choice,
            tool_calls=said.calls,
            logprobs=logprobs,
        )


def _call_ids(turn_id: str, choice: int) -> Callable[[int], str]:
    def name_call(index: int) -> str:
        # From the turn alone: an answer that is generated again has the same calls.
        digest = hashlib.sha256(f"{turn_id}:{choice}:{index}".encode()).hexdigest()
        return f"call_{digest[:_CALL_ID_CHARS]}"

    return name_call
