"""The edge: views of turns on their way to clients."""

from collections.abc import Sequence
from typing import Protocol

from schemas.tokens import TokenEvent


class AnswerReader(Protocol):
    """One client's view of one turn: the records that count, in order, exactly once."""

    async def next_events(self, wait_s: float) -> Sequence[TokenEvent]:
        """The next events, at least one; empty when ``wait_s`` passed without any (time for a heartbeat).

        Raises Retryable when the reader fell too far behind or the process is draining; it may carry the
        ``refusal`` to show.
        """
        ...

    def close(self) -> None:
        """Stop following the turn."""
        ...


class AnswerReaders(Protocol):
    """Opens views of turns."""

    def home_partition(self) -> int:
        """A tokens partition that this process reads, for a new turn."""
        ...

    def position(self, partition: int) -> int:
        """An offset before every record of a turn that is submitted after this call."""
        ...

    def open(self, turn_id: str) -> AnswerReader:
        """Follow a turn that has not been submitted yet; call it before submitting."""
        ...
