"""What must hold for every log of one turn; reads the log alone, never the owners' minds."""

from collections.abc import Sequence

from schemas.tokens import AttemptStarted, Cleared, Delta, Finished, Persisted, Refused, Terminal, TokenEvent
from tests.support.fence_simulation import Advance, Turn, continues, counted


def violations(turn: Turn) -> list[str]:
    """The broken promises of a turn, empty when all hold."""
    events = counted(turn.advance, turn.log)
    return [
        *_one_ending([event for _, event in events]),
        *_one_text([event for _, event in events]),
        *_one_decision([event for _, event in events]),
        *_nothing_relied_on_is_lost(turn, {position for position, _ in events}),
    ]


def _one_ending(events: Sequence[TokenEvent]) -> list[str]:
    endings = [index for index, event in enumerate(events) if isinstance(event, Terminal)]
    found = []
    if len(endings) > 1:
        found.append("more than one terminal")
    after = events[endings[0] + 1 :] if endings else ()
    if len(after) > 1 or not all(isinstance(event, Persisted) for event in after):
        found.append("something else than one persisted after the terminal")
    if not endings and any(isinstance(event, Persisted) for event in events):
        found.append("persisted without a terminal")
    return found


def _one_decision(events: Sequence[TokenEvent]) -> list[str]:
    decisions = [event for event in events if isinstance(event, Cleared | Refused)]
    return ["cleared and refused, or twice one of them"] if len(decisions) > 1 else []


def _one_text(events: Sequence[TokenEvent]) -> list[str]:
    text, seq, found = "", 0, []
    for event in events:
        if isinstance(event, Delta):
            if event.seq != seq:
                found.append(f"seq {event.seq} counted where {seq} is next")
            if not continues(event.content.text, text):
                found.append(f"delta {seq} was generated from another text")
            seq += 1
            text += event.content.text
        elif isinstance(event, Finished) and event.seq != seq:
            found.append(f"finished after {event.seq} deltas of {seq}")
    return found


def _nothing_relied_on_is_lost(turn: Turn, kept: set[int]) -> list[str]:
    """An owner that read up to its fence goes on undisturbed until a higher fence or a terminal."""
    found = []
    for position in turn.expected:
        delta = turn.log[position]
        assert isinstance(delta, Delta)
        before = turn.log[:position]
        overtaken = any(isinstance(event, AttemptStarted) and event.attempt > delta.attempt for event in before)
        if position not in kept and not overtaken and not _ended(turn.advance, before):
            found.append(f"delta at {position} by the rightful owner does not count")
    return found


def _ended(advance: Advance, log: Sequence[TokenEvent]) -> bool:
    return any(isinstance(event, Terminal) for _, event in counted(advance, log))
