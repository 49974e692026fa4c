"""What ingest needs from the rest of the edge process, beside the ports of the contract."""

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from schemas.events import Turn
from schemas.ports import (
    AnswerForm,
    AnswerReader,
    AnswerReaders,
    ClientChannel,
    ConversationDirectory,
    InputPolicy,
    Metrics,
    Producer,
    RestForm,
    StoredAnswer,
    StoredAnswers,
    StoredMessage,
    TurnClaims,
    TurnLookup,
    UsageRows,
)
from schemas.stream_state import StreamState
from schemas.tokens import Cleared


class Answerer(Protocol):
    """Writes answers as HTTP responses. Every method writes the whole response and closes what it was given."""

    def answer(
        self, turn: Turn, reader: AnswerReader, channel: ClientChannel, form: AnswerForm
    ) -> Coroutine[Any, Any, None]:
        """The response to the request that made ``turn``, or to one that joins it: the whole answer from its start."""
        ...

    async def resume(self, cleared: Cleared, reader: AnswerReader, channel: ClientChannel, form: RestForm) -> None:
        """The rest of a turn's stream; with chat completions as events with ids."""
        ...

    async def replay(self, stored: StoredAnswer, channel: ClientChannel, form: RestForm) -> None:
        """The same from the store, for a turn that the log has forgotten."""
        ...

    def show(self, stored: StoredAnswer) -> bytes:
        """The whole answer as the object of its API, as JSON, from the store."""
        ...

    def show_running(self, cleared: Cleared, status: str) -> bytes:
        """The response of a turn that is not over, as JSON, with that status."""
        ...


class Canceller(Protocol):
    """Ends turns before their time."""

    async def cancel(self, turn_id: str, reason: Literal["client", "abandoned"]) -> None:
        """Put ``Cancelled`` on the turn's log, then hint to inference. Raises OutcomeUnknown."""
        ...


class TurnStates(Protocol):
    """Turns that this process follows."""

    def state(self, turn_id: str) -> StreamState | None:
        """Where the turn stands, or None for a turn that is not followed here."""
        ...


class MessagePages(Protocol):
    """The stored messages of one conversation, a page at a time."""

    async def page(
        self, conversation_id: str, limit: int, after: int | None, *, newest_first: bool
    ) -> Sequence[StoredMessage]:
        """Up to ``limit`` messages strictly beyond ``after`` in the asked order of ``message_seq``.

        ``after`` is a ``message_seq``, exclusive; None starts at the beginning of the order. Incomplete messages
        are included; an unknown conversation has none. Raises Retryable.
        """
        ...


@dataclass(frozen=True, slots=True)
class IngestPorts:
    """The world as ingest sees it; the composition root fills it in.

    ``now_ms`` is Unix time, ``monotonic_s`` measures durations, ``entropy`` gives that many random bytes.
    """

    producer: Producer
    readers: AnswerReaders
    states: TurnStates
    lookup: TurnLookup
    answerer: Answerer
    canceller: Canceller
    claims: TurnClaims
    stored: StoredAnswers
    conversations: ConversationDirectory
    pages: MessagePages
    policy: InputPolicy
    usage: UsageRows
    metrics: Metrics
    now_ms: Callable[[], int]
    monotonic_s: Callable[[], float]
    entropy: Callable[[int], bytes]
