"""The edge: views of turns on their way to clients."""

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from schemas.cursors import Cursor
from schemas.events import Api
from schemas.plain_deltas import PlainDelta
from schemas.stream_state import StreamState
from schemas.tokens import Cleared, TokenEvent

# The ASGI extension whose value is a ``ClientLink``.
CLIENT_LINK: Final = "turnstream.client_link"


class Placed(NamedTuple):
    """An event of a turn and the offset of its record in the turn's tokens partition."""

    event: TokenEvent | PlainDelta
    offset: int


class AnswerForm(NamedTuple):
    """The form in which a client wants an answer. ``background``: only that it was begun, unless it is streamed."""

    stream: bool
    include_usage: bool = False
    background: bool = False


class RestForm(NamedTuple):
    """What a client wants of a turn that was begun before, in the terms of ``api``.

    ``after`` is the place behind which it wants it, None for all: ``Cursor.seq`` for chat completions, the number of an
    event for responses. ``with_ids``: for an EventSource, which comes back by itself with the last id that it saw.
    """

    api: Api
    after: int | None = None
    include_usage: bool = False
    with_ids: bool = False


class ClientLink(Protocol):
    """What the HTTP server tells of one response's client, and takes for it, beside the messages of ASGI.

    ``gone``: the client has left. ``on_gone`` is called once when it does.
    """

    gone: bool
    on_gone: Callable[[], object] | None

    @property
    def ready(self) -> bool:
        """Whether a piece of the body may be written now: its head was sent, and the client keeps up."""
        ...

    def write_piece(self, piece: bytes) -> None:
        """Write a piece of the body, which is not its last and not empty; only while ``ready``."""
        ...

    def leave(self) -> None:
        """Take the client for gone."""
        ...


class ClientChannel(NamedTuple):
    """One response on its way to its client: whole by the messages of ASGI, its pieces also by ``link``."""

    send: Callable[[MutableMapping[str, Any]], Awaitable[None]]
    link: ClientLink


# Takes events as they come; returns for how long to wait for more, None to end the wait.
Meanwhile = Callable[[Sequence[Placed]], float | None]


class AnswerReader(Protocol):
    """One client's view of one turn: the records that count, in order, exactly once."""

    async def wait(self, wait_s: float) -> bool:
        """Whether there are events to take, after at most ``wait_s``; takes none. Raises Retryable."""
        ...

    async def next_events(self, wait_s: float, meanwhile: Meanwhile | None = None) -> Sequence[Placed]:
        """The next events, at least one; empty when ``wait_s`` passed without any (time for a heartbeat).

        With ``meanwhile`` events that come during the wait are given to it instead, without waking the caller.
        A client that reads slowly loses nothing: what it has not taken is read from the log again. Raises Retryable
        when the log cannot be read or the process is draining; it may carry the ``refusal`` to show.
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

    async def follow(
        self, turn_id: str, *, cleared: Cleared | None = None, cursor: Cursor | None = None
    ) -> AnswerReader:
        """Follow a turn that any edge submitted, on any partition, from its first record on, then live.

        With ``cursor`` (verified, and then with the turn's ``cleared``) from the record at its offset, that one
        included; a place that the log does not have (any more) means from the first record. Raises Retryable.
        """
        ...


class TurnLookup(Protocol):
    """Turns by their id alone: it says in which partition, and since when."""

    async def find(self, turn_id: str) -> StreamState:
        """Where the turn stands by the log; the initial state without any record of it.

        Raises Retryable, also when its partition has grown too long to search.
        """
        ...

    async def clearance(self, turn_id: str) -> Cleared | None:
        """The turn's ``cleared``, read no further than to it; None when the log has none. Raises Retryable."""
        ...
