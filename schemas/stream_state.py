"""The fence reducer: what the records of one turn mean together.

Every reader of ``chat.tokens.v1`` (the edge, the sink, the next owner of a turn) folds the records of a
turn, in log order, through ``advance``. They therefore agree on one text, however many owners, zombies
and duplicate appends there were:

- a fence counts if its attempt is higher than the current one;
- a delta counts if it is of the current attempt and owner, and its ``seq`` is the next;
- the first terminal that counts ends the turn; nothing but ``persisted`` counts after it;
- a refusal does not count once the turn is cleared: it is of a repetition that found other circumstances.
"""

from typing import NamedTuple, assert_never

from schemas.tokens import (
    Attached,
    AttemptStarted,
    Cancelled,
    Cleared,
    Delta,
    Failed,
    Finished,
    Persisted,
    Probed,
    Refused,
    Terminal,
    TokenEvent,
)


class StreamState(NamedTuple):
    """Where a turn stands. It does not hold the text: readers that need it keep the deltas that counted."""

    cleared: Cleared | None = None
    attempt: int = 0
    owner: str | None = None
    next_seq: int = 0
    terminal: Terminal | None = None
    persisted: Persisted | None = None

    @property
    def settled(self) -> bool:
        """Whether the turn has ended and is in the history, if it is one that is kept: nothing more will be said."""
        kept = self.cleared is not None and self.cleared.stored
        return self.terminal is not None and (not kept or self.persisted is not None)

    def owned_by(self, attempt: int, owner: str | None) -> bool:
        """Whether this attempt of this owner is the one that may write."""
        return self.attempt == attempt and self.owner == owner


INITIAL = StreamState()


def advance(state: StreamState, event: TokenEvent) -> StreamState:
    """The state after ``event``. Returns the same object if and only if the event does not count."""
    if not counts(state, event):
        return state
    cleared, attempt, owner, next_seq, terminal, persisted = state
    match event:
        case Delta():
            next_seq += 1
        case AttemptStarted():
            attempt, owner = event.attempt, event.owner
        case Cleared():
            cleared = event
        case Persisted():
            persisted = event
        case Finished() | Failed() | Refused() | Cancelled():
            terminal = event
        case Attached() | Probed():
            return state
        case _:
            assert_never(event)
    return StreamState(cleared, attempt, owner, next_seq, terminal, persisted)


def after_deltas(state: StreamState, deltas: int) -> StreamState:
    """The state after the next ``deltas`` of its owner: what ``advance`` comes to, one by one."""
    cleared, attempt, owner, next_seq, terminal, persisted = state
    return StreamState(cleared, attempt, owner, next_seq + deltas, terminal, persisted)


def counts(state: StreamState, event: TokenEvent) -> bool:
    """Whether ``event`` changes the turn: the rules above, and no others."""
    if isinstance(event, Persisted):
        return state.terminal is not None and state.persisted is None
    if state.terminal is not None:
        return False
    match event:
        case Delta() | Finished():
            verdict = state.owned_by(event.attempt, event.owner) and event.seq == state.next_seq
        case AttemptStarted():
            verdict = event.attempt > state.attempt
        case Failed():
            verdict = event.attempt is None or state.owned_by(event.attempt, event.owner)
        case Cleared() | Refused():
            verdict = state.cleared is None
        case Cancelled():
            verdict = True
        case Attached() | Probed():
            verdict = False
        case _:
            assert_never(event)
    return verdict
