"""The next pieces of an answer: what was generated and is not on the log yet, and what moderation judges. Pure."""

import json
import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from consumers.inference.answer import NOTHING, Answer, Call, Choice, with_choice
from schemas.content import Content
from schemas.events import Decision
from schemas.generation import TokenLogprob, ToolCallDelta
from schemas.ports import OutputPolicy, Verdict
from schemas.stream_state import after_deltas

# One backslash and what it escapes; surrogates come in pairs and are judged as one character.
_ESCAPES: Final = re.compile(r'(?:\\u[0-9a-fA-F]{4})+|\\["\\/bfnrt]')


class Piece(NamedTuple):
    """What one delta says of one choice."""

    choice: int
    text: str
    tokens: int
    calls: tuple[ToolCallDelta, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()


def unsent(answer: Answer, produced: Sequence[Choice], chars_max: int) -> tuple[Piece, ...]:
    """The next piece of every choice of which there is more in ``produced`` than in ``answer``, which it goes on from.

    Merging is by backpressure: whatever came in while the last append was in flight is one piece, up to ``chars_max``.
    """
    pieces = []
    for index, choice in enumerate(produced):
        before = answer.choice(index)
        if before.shows_less(choice):
            pieces.append(_next_piece(index, before, choice, chars_max))
    return tuple(pieces)


def grow(answer: Answer, pieces: Sequence[Piece], at_ms: int) -> Answer:
    """The answer after its owner's next deltas said ``pieces``, at ``at_ms``: as if they were folded one by one."""
    state, choices, first_at_ms, ended_at_ms, routes = answer
    for index, text, tokens, calls, logprobs in pieces:
        before = choices[index] if index < len(choices) else NOTHING
        choices = with_choice(choices, index, before.add(text, tokens, calls, logprobs))
    first_at_ms = at_ms if first_at_ms is None else first_at_ms
    return Answer(after_deltas(state, len(pieces)), choices, first_at_ms, ended_at_ms, routes)


def verdict_on(policy: OutputPolicy, answer: Answer, pieces: Sequence[Piece], window_chars: int) -> Verdict | None:
    """The verdict that keeps ``pieces`` from the log; None when all may pass."""
    for piece in pieces:
        for text, before in judged(answer, piece, window_chars):
            verdict = policy.judge_output(text, before)
            if verdict.decision is not Decision.ALLOWED:
                return verdict
    return None


def judged(answer: Answer, piece: Piece, window_chars: int) -> tuple[tuple[str, str], ...]:
    """The texts that moderation judges before ``piece`` is appended, each with the tail of what came before it.

    The arguments of a tool call are judged as whoever decodes them will read them, in one with their tail.
    """
    before = answer.choice(piece.choice)
    texts = [(piece.text, before.text[-window_chars:])] if piece.text else []
    for call in piece.calls:
        known = before.calls[call.index].arguments if call.index < len(before.calls) else ""
        arguments = known[-window_chars:] + (call.arguments.text if call.arguments else "")
        texts.append((_ESCAPES.sub(_unescaped, arguments), ""))
    return tuple(texts)


def _next_piece(index: int, before: Choice, after: Choice, chars_max: int) -> Piece:
    if not after.calls and not after.logprobs:
        # Nearly every piece: no more work than it takes.
        start = len(before.text)
        return Piece(index, after.text[start : start + chars_max], max(0, after.tokens - before.tokens))
    text = after.text[len(before.text) :][:chars_max]
    end = len(before.text) + len(text)
    calls = _unsent_calls(before.calls, after.calls, chars_max - len(text)) if end == len(after.text) else ()
    return Piece(
        choice=index,
        text=text,
        tokens=max(0, after.tokens - before.tokens),
        calls=calls,
        logprobs=_logprobs_until(before, after, end),
    )


def _unsent_calls(before: Sequence[Call], after: Sequence[Call], chars_max: int) -> tuple[ToolCallDelta, ...]:
    pieces = []
    for index, call in enumerate(after):
        if chars_max <= 0:
            break
        known = before[index] if index < len(before) else None
        start = len(known.arguments) if known else 0
        arguments = call.arguments[start : start + chars_max]
        chars_max -= len(arguments)
        if known is None:
            pieces.append(ToolCallDelta(index=index, id=call.id, name=call.name, arguments=Content(arguments)))
        elif arguments:
            pieces.append(ToolCallDelta(index=index, arguments=Content(arguments)))
        if start + len(arguments) < len(call.arguments):
            break
    return tuple(pieces)


def _logprobs_until(before: Choice, after: Choice, end: int) -> tuple[TokenLogprob, ...]:
    rest = after.logprobs[len(before.logprobs) :]
    if end == len(after.text):
        return rest
    spelled, count = before.spelled, 0
    for one in rest:
        spelled += len(one.token.text)
        if spelled > end:
            break
        count += 1
    return rest[:count]


def _unescaped(found: "re.Match[str]") -> str:
    text: str = json.loads(f'"{found.group()}"')
    # Half of a pair is no character; a rule must not trip over it.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
