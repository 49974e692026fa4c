"""Owners, zombies and a sink working on one turn's log, driven by a program of steps.

An owner follows the protocol of the design: fence, read back up to the fence, continue from what was accepted.
Every delta says from which text it was generated, so a checker sees any gap, repeat or stale prefix in the log alone.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from hashlib import blake2b
from typing import NamedTuple

from schemas.content import Content
from schemas.errors import server_error
from schemas.events import FinishReason, RateLimits, Usage
from schemas.stream_state import INITIAL, StreamState
from schemas.tokens import (
    AttemptStarted,
    Cancelled,
    Cleared,
    Delta,
    Failed,
    Finished,
    Persisted,
    Refused,
    TokenEvent,
)

Advance = Callable[[StreamState, TokenEvent], StreamState]

TURN = "0" * 26
OWNERS_MAX = 4


class Action(Enum):
    FENCE = auto()
    READ_BACK = auto()
    WRITE = auto()
    FINISH = auto()
    FAIL = auto()
    CRASH = auto()
    DELIVER = auto()
    CLEAR = auto()
    REFUSE = auto()
    CANCEL = auto()
    DEAD_LETTER = auto()
    PERSIST = auto()


class Landing(Enum):
    """What becomes of an append. Only after ONCE, TWICE and AGAIN_LATER does its author know that it landed."""

    ONCE = auto()
    TWICE = auto()
    AGAIN_LATER = auto()
    LATER = auto()
    NEVER = auto()


class Step(NamedTuple):
    action: Action
    owner: int
    landing: Landing


@dataclass
class Owner:
    """One inference process; ``text`` and ``next_seq`` are what it believes to be accepted."""

    name: str
    attempt: int = 0
    fence_at: int | None = None
    generating: bool = False
    next_seq: int = 0
    text: str = ""


@dataclass
class Turn:
    """One turn's log. ``expected`` are positions of deltas whose authors rely on them."""

    advance: Advance
    log: list[TokenEvent] = field(default_factory=list)
    in_flight: list[TokenEvent] = field(default_factory=list)
    owners: list[Owner] = field(default_factory=lambda: [Owner(f"owner-{n}") for n in range(OWNERS_MAX)])
    expected: list[int] = field(default_factory=list)

    def run(self, program: Sequence[Step]) -> None:
        for step in program:
            self._take(step)

    def _take(self, step: Step) -> None:
        owner = self.owners[step.owner % OWNERS_MAX]
        match step.action:
            case Action.FENCE:
                self._fence(owner, step.landing)
            case Action.READ_BACK:
                self._read_back(owner)
            case Action.WRITE:
                self._write(owner, step.landing)
            case Action.FINISH | Action.FAIL:
                self._end(owner, step)
            case Action.CRASH:
                self.owners[step.owner % OWNERS_MAX] = Owner(f"{owner.name}'")
            case Action.DELIVER:
                if self.in_flight:
                    self.log.append(self.in_flight.pop(step.owner % len(self.in_flight)))
            case Action.PERSIST:
                if fold(self.advance, self.log).terminal is not None:
                    self._append(Persisted(turn_id=TURN, message_seq=1), step.landing)
            case _:
                self._append(_UNOWNED[step.action], step.landing)

    def _fence(self, owner: Owner, landing: Landing) -> None:
        owner.attempt += 1
        owner.generating = False
        landed = self._append(AttemptStarted(turn_id=TURN, attempt=owner.attempt, owner=owner.name), landing)
        owner.fence_at = len(self.log) - 1 if landed else None

    def _read_back(self, owner: Owner) -> None:
        if owner.fence_at is None:
            return
        prefix = self.log[: owner.fence_at + 1]
        state = fold(self.advance, prefix)
        owner.fence_at = None
        if state.owned_by(owner.attempt, owner.name) and state.terminal is None:
            owner.generating, owner.next_seq, owner.text = True, state.next_seq, accepted_text(self.advance, prefix)
        else:
            owner.attempt = max(owner.attempt, state.attempt)

    def _write(self, owner: Owner, landing: Landing) -> None:
        if not owner.generating:
            return
        content = piece(owner.text, owner.name)
        at = len(self.log)
        delta = Delta(
            turn_id=TURN,
            attempt=owner.attempt,
            owner=owner.name,
            seq=owner.next_seq,
            content=Content(content),
            tokens=1,
        )
        if self._append(delta, landing):
            self.expected.append(at)
            owner.next_seq += 1
            owner.text += content
        else:
            owner.generating = False

    def _end(self, owner: Owner, step: Step) -> None:
        if not owner.generating:
            return
        owner.generating = False
        if step.action is Action.FAIL:
            failed = Failed(turn_id=TURN, attempt=owner.attempt, owner=owner.name, refusal=server_error("x"))
            self._append(failed, step.landing)
            return
        finished = Finished(
            turn_id=TURN,
            attempt=owner.attempt,
            owner=owner.name,
            seq=owner.next_seq,
            finish_reason=FinishReason.STOP,
            usage=Usage(prompt_tokens=1, completion_tokens=owner.next_seq),
        )
        self._append(finished, step.landing)

    def _append(self, event: TokenEvent, landing: Landing) -> bool:
        """Whether the author learns that the event is on the log."""
        if landing in (Landing.ONCE, Landing.TWICE, Landing.AGAIN_LATER):
            self.log.extend([event] * (2 if landing is Landing.TWICE else 1))
        if landing in (Landing.LATER, Landing.AGAIN_LATER):
            self.in_flight.append(event)
        return landing not in (Landing.LATER, Landing.NEVER)


_LIMITS = RateLimits(
    limit_requests=1,
    remaining_requests=1,
    reset_requests_ms=0,
    limit_tokens=1,
    remaining_tokens=1,
    reset_tokens_ms=0,
)
_UNOWNED: dict[Action, TokenEvent] = {
    Action.CLEAR: Cleared(
        turn_id=TURN,
        conversation_id="c",
        tenant_id="t",
        user_id="u",
        model="m",
        stored=True,
        message_seq=0,
        submitted_at_ms=0,
        limits=_LIMITS,
    ),
    Action.REFUSE: Refused(turn_id=TURN, stage="auth", refusal=server_error("x")),
    Action.CANCEL: Cancelled(turn_id=TURN, reason="client"),
    Action.DEAD_LETTER: Failed(turn_id=TURN, refusal=server_error("x")),
}
# Mostly owners at work; the rare actions end a turn and would leave nothing to test.
_WEIGHTS = {
    Action.FENCE: 12,
    Action.READ_BACK: 16,
    Action.WRITE: 30,
    Action.DELIVER: 14,
    Action.CRASH: 2,
    Action.CLEAR: 2,
    Action.FINISH: 3,
    Action.FAIL: 1,
    Action.REFUSE: 1,
    Action.CANCEL: 1,
    Action.DEAD_LETTER: 1,
    Action.PERSIST: 3,
}
_LANDINGS = (Landing.ONCE,) * 6 + (Landing.TWICE, Landing.AGAIN_LATER, Landing.LATER, Landing.NEVER)


def random_program(seed: int) -> list[Step]:
    """40 to 120 steps by 1 to 4 owners."""
    dice = random.Random(seed)
    owners = dice.randint(1, OWNERS_MAX)
    actions = dice.choices(list(_WEIGHTS), list(_WEIGHTS.values()), k=dice.randint(40, 120))
    return [Step(action, dice.randrange(owners), dice.choice(_LANDINGS)) for action in actions]


def piece(prefix: str, author: str) -> str:
    """The next piece of an answer: it names its author and the text that it continues."""
    return f"[{author}:{_digest(prefix)}]"


def fold(advance: Advance, log: Sequence[TokenEvent], state: StreamState = INITIAL) -> StreamState:
    for event in log:
        state = advance(state, event)
    return state


def counted(advance: Advance, log: Sequence[TokenEvent]) -> list[tuple[int, TokenEvent]]:
    """The events that changed the turn, with their positions."""
    state, found = INITIAL, []
    for position, event in enumerate(log):
        after = advance(state, event)
        if after is not state:
            found.append((position, event))
        state = after
    return found


def accepted_text(advance: Advance, log: Sequence[TokenEvent]) -> str:
    return "".join(event.content.text for _, event in counted(advance, log) if isinstance(event, Delta))


def continues(content: str, prefix: str) -> bool:
    """Whether a piece was generated from exactly this text."""
    return content.endswith(f":{_digest(prefix)}]")


def _digest(text: str) -> str:
    return blake2b(text.encode(), digest_size=6).hexdigest()
