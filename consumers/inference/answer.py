"""What the log, or a backend, has said of a turn's answer so far. Pure.

An answer has one or several choices. A choice is text, tool calls and the log probabilities of its tokens, each of
which only grows; so one state of an answer either begins another one, or they are two different answers.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from schemas.events import InferenceRequested, Route
from schemas.generation import TokenLogprob, ToolCallDelta
from schemas.stream_state import INITIAL, StreamState, advance
from schemas.tokens import AttemptStarted, Delta, TokenEvent


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call as far as it is known; ``arguments`` is JSON text that grows."""

    id: str
    name: str
    arguments: str = ""


class Choice(NamedTuple):
    """One answer to the prompt. ``spelled`` counts the characters of the tokens in ``logprobs``."""

    text: str = ""
    calls: tuple[Call, ...] = ()
    tokens: int = 0
    logprobs: tuple[TokenLogprob, ...] = ()
    spelled: int = 0

    @property
    def chars(self) -> int:
        """How much there is, in characters, so that it can be bounded."""
        return len(self.text) + (sum(len(call.name) + len(call.arguments) for call in self.calls) if self.calls else 0)

    def add(
        self,
        text: str,
        tokens: int,
        calls: tuple[ToolCallDelta, ...] = (),
        logprobs: tuple[TokenLogprob, ...] = (),
    ) -> "Choice":
        """The choice with one more piece."""
        if not calls and not logprobs:
            # Nearly every token: no more work than it takes.
            return Choice(self.text + text, self.calls, self.tokens + tokens, self.logprobs, self.spelled)
        return Choice(
            text=self.text + text,
            calls=_with_calls(self.calls, calls) if calls else self.calls,
            tokens=self.tokens + tokens,
            logprobs=self.logprobs + logprobs if logprobs else self.logprobs,
            spelled=self.spelled + sum(len(one.token.text) for one in logprobs),
        )

    def begins(self, other: "Choice") -> bool:
        """Whether ``other`` is this choice, gone on or not."""
        if not other.text.startswith(self.text):
            return False
        if not self.calls and not self.logprobs:
            # Nearly every answer: no more work than it takes.
            return True
        return (
            len(other.calls) >= len(self.calls)
            and all(
                (mine.id, mine.name) == (theirs.id, theirs.name) and theirs.arguments.startswith(mine.arguments)
                for mine, theirs in zip(self.calls, other.calls, strict=False)
            )
            and len(other.logprobs) >= len(self.logprobs)
        )

    def shows_less(self, other: "Choice") -> bool:
        """Whether ``other``, which this begins, has something for a client that this lacks."""
        if len(other.text) > len(self.text) or len(other.calls) > len(self.calls):
            return True
        if not self.calls:
            return False
        pairs = zip(self.calls, other.calls, strict=False)
        return any(len(theirs.arguments) > len(mine.arguments) for mine, theirs in pairs)


def _with_calls(calls: tuple[Call, ...], pieces: tuple[ToolCallDelta, ...]) -> tuple[Call, ...]:
    grown = list(calls)
    for piece in pieces:
        while len(grown) <= piece.index:
            grown.append(Call(id="", name=""))
        call = grown[piece.index]
        grown[piece.index] = Call(
            id=call.id or piece.id or "",
            name=call.name or piece.name or "",
            arguments=call.arguments + (piece.arguments.text if piece.arguments else ""),
        )
    return tuple(grown)


NOTHING = Choice()


class Answer(NamedTuple):
    """A turn as the log has it: its state, what was accepted, when it began and ended (Unix ms), who tried."""

    state: StreamState = INITIAL
    choices: tuple[Choice, ...] = ()
    first_token_at_ms: int | None = None
    ended_at_ms: int | None = None
    routes: tuple[Route, ...] = ()

    @property
    def ended(self) -> bool:
        """Whether a terminal counted."""
        return self.state.terminal is not None

    @property
    def begun(self) -> bool:
        """Whether anything of the answer is on the log: a client may have seen it."""
        return self.state.next_seq > 0

    @property
    def text(self) -> str:
        """The text of the first choice."""
        return self.choice(0).text

    @property
    def tokens(self) -> int:
        """Completion tokens of all choices."""
        return sum(choice.tokens for choice in self.choices)

    @property
    def chars(self) -> int:
        """Characters of all choices."""
        return sum(choice.chars for choice in self.choices)

    def choice(self, index: int) -> Choice:
        """The choice at ``index``, empty before its first piece."""
        return self.choices[index] if index < len(self.choices) else NOTHING


def fold(answer: Answer, event: TokenEvent, at_ms: int) -> Answer:
    """The answer after ``event``, recorded at ``at_ms``. The same object if the event does not count."""
    state = advance(answer.state, event)
    if state is answer.state:
        return answer
    _, choices, first, ended, routes = answer
    if isinstance(event, Delta):
        first = at_ms if first is None else first
        grown = answer.choice(event.choice).add(event.content.text, event.tokens, event.tool_calls, event.logprobs)
        choices = with_choice(choices, event.choice, grown)
    elif isinstance(event, AttemptStarted):
        routes = routes if event.route is None else (*routes, event.route)
    elif answer.state.terminal is None and state.terminal is not None:
        ended = at_ms
    return Answer(state, choices, first, ended, routes)


def fold_all(answer: Answer, events: Iterable[TokenEvent], at_ms: int) -> Answer:
    """The answer after ``events``, all recorded at ``at_ms``."""
    for event in events:
        answer = fold(answer, event, at_ms)
    return answer


def with_choice(choices: tuple[Choice, ...], index: int, choice: Choice) -> tuple[Choice, ...]:
    """``choices`` with the one at ``index`` replaced."""
    if index == 0 and len(choices) <= 1:
        return (choice,)
    padded = (*choices, *(NOTHING for _ in range(index + 1 - len(choices))))
    return (*padded[:index], choice, *padded[index + 1 :])


def next_attempt(answer: Answer, tried: int) -> int:
    """The attempt to fence with: above every attempt that the log shows, and above those tried in this run."""
    return max(answer.state.attempt, tried) + 1


def can_go_on(request: InferenceRequested, answer: Answer) -> bool:
    """Whether a new generation may take up the answer where the log has it.

    The sealed rule of "the answer outlives its worker". What nobody has seen is simply begun anew. What was begun is
    continued from its text, and the text alone: that is impossible for several choices, for an answer that a grammar
    holds (a grammar starts at its start), once a tool call is under way, and when the log probabilities so far do
    not cover the text so far, so that the rest would belong to other tokens.
    """
    if not answer.begun:
        return True
    generation, first = request.turn.generation, answer.choice(0)
    if generation.n > 1 or generation.constrained or first.calls:
        return False
    return not generation.logprobs or first.spelled == len(first.text)


def route_of(request: InferenceRequested) -> Route:
    """Who is to answer ``request``."""
    return Route(model=request.served_model or request.turn.model, pool=request.pool)


def answered_by(request: InferenceRequested, answer: Answer) -> Route:
    """Whose answer it is: of the last owner, and of nobody else when one pool was asked."""
    return answer.routes[-1] if answer.routes else route_of(request)


def handed_on(request: InferenceRequested, answer: Answer) -> bool:
    """Whether one of the request's fallbacks has begun with the turn: it is theirs, whoever asks again."""
    return any(route in request.fallbacks for route in answer.routes)
