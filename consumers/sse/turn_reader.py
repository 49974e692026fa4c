"""One client's view of one turn: fed live while the client keeps up, read from the log while it does not."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from consumers.sse.core import SseSettings, StreamBroken
from schemas import serde
from schemas.errors import Malformed
from schemas.ports import Meanwhile, Placed, Record
from schemas.stream_state import StreamState, advance


class TurnSource(Protocol):
    """What a reader needs: its turn's records on the log, and the feed of what comes next."""

    @property
    def key(self) -> bytes:
        """The key of the turn's records."""
        ...

    def position(self) -> int:
        """The offset up to which the feed has passed on the partition's records."""
        ...

    async def read(self, start: int, stop: int) -> Sequence[Record]:
        """The partition's records with ``start <= offset < stop``. Raises Retryable."""
        ...

    def attach(self, reader: "TurnReader", state: StreamState) -> None:
        """Feed ``reader`` from ``position`` on; ``state`` is the turn's by all records before it."""
        ...

    async def joined(self) -> None:
        """The reader has caught up with a turn that is still running, for the first time."""
        ...

    def fell_behind(self, reader: "TurnReader") -> None:
        """Feed ``reader`` no more, for now."""
        ...

    def leave(self, reader: "TurnReader") -> None:
        """The reader is done."""
        ...


class TurnReader:
    """Implements ``AnswerReader``.

    Live, it holds at most ``buffer_events_max`` events and ``buffer_bytes_max`` bytes (as on the log). A client that
    lets more pile up gets what is held; from there on the reader takes the log for its buffer, in chunks, until it
    stands exactly where the feed stands, and is live again.
    """

    __slots__ = (
        "_broken",
        "_bytes",
        "_due_s",
        "_held",
        "_joined",
        "_live",
        "_loop",
        "_meanwhile",
        "_position",
        "_settings",
        "_source",
        "_state",
        "_waiter",
    )

    def __init__(self, source: TurnSource, settings: SseSettings, state: StreamState, position: int) -> None:
        """``state`` is the turn's by all records before ``position``. Not live yet."""
        self._loop = asyncio.get_running_loop()
        self._source = source
        self._settings = settings
        self._state = state
        self._position = position
        self._live = False
        self._joined = False
        self._held: list[Placed] = []
        self._bytes = 0
        self._broken: StreamBroken | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._meanwhile: Meanwhile | None = None
        self._due_s = 0.0

    async def wait(self, wait_s: float) -> bool:
        """Whether there are events to take, after at most about ``wait_s``. Raises StreamBroken, Retryable."""
        if not self._held and not self._live and self._broken is None:
            placed = await self._read_on()
            self._held += placed
        if not self._held and self._broken is None:
            self._due_s = self._loop.time() + wait_s
            self._waiter = self._loop.create_future()
            await self._waiter
        if not self._held and self._broken is not None:
            raise self._broken
        return bool(self._held)

    async def next_events(self, wait_s: float, meanwhile: Meanwhile | None = None) -> Sequence[Placed]:
        """The next events; empty when about ``wait_s`` passed without any, or ``meanwhile`` ended the wait.

        Raises StreamBroken, Retryable, and what ``meanwhile`` raises.
        """
        if not self._held:
            self._meanwhile = meanwhile
            try:
                await self.wait(wait_s)
            finally:
                self._meanwhile = None
        return self._take()

    def go_live(self) -> None:
        """Be fed from where this reader stands, which must be where the feed stands."""
        self._source.attach(self, self._state)
        self._live = self._joined = True

    def push(self, placed: Placed, size_bytes: int, before: StreamState) -> None:
        """Hold the turn's next event, until ``deliver``; ``before`` is the turn's state without it."""
        if self._broken is not None:
            return
        settings = self._settings
        if len(self._held) >= settings.buffer_events_max or self._bytes + size_bytes > settings.buffer_bytes_max:
            self._live = False
            self._state, self._position = before, placed.offset
            self._source.fell_behind(self)
            self._wake()
        else:
            self._held.append(placed)
            self._bytes += size_bytes

    def deliver(self) -> None:
        """Pass on what is held to whoever waits for it."""
        if not self._held or self._waiter is None or self._waiter.done():
            return
        if self._meanwhile is None or self._broken is not None:
            self._wake()
            return
        try:
            wait_s = self._meanwhile(self._take())
        except Exception as error:  # noqa: BLE001 - it is the waiter's, and must not end the feed of all others
            self._waiter.set_exception(error)
            return
        if wait_s is None:
            self._wake()
        else:
            self._due_s = self._loop.time() + wait_s

    def break_off(self, cause: StreamBroken) -> None:
        """Take no more events; the client gets ``cause`` after those that are held."""
        self._broken = self._broken or cause
        self._wake()

    def wake_if_due(self, now_s: float) -> None:
        """End a wait whose time is over; called by the ticker of ``LiveTurns``."""
        if now_s >= self._due_s:
            self._wake()

    def close(self) -> None:
        """Stop following the turn; may be called again."""
        self._held = []
        self._source.leave(self)

    def _take(self) -> Sequence[Placed]:
        placed, self._held, self._bytes = self._held, [], 0
        return placed

    async def _read_on(self) -> Sequence[Placed]:
        """Events from the log; none when the reader has caught up and is live."""
        while self._broken is None:
            stop = self._source.position()
            if self._position >= stop:
                # No await since the feed's position was read: nothing can lie between the log and the feed.
                joining = not self._joined and self._state.terminal is None
                self.go_live()
                if joining:
                    await self._source.joined()
                break
            stop = min(stop, self._position + self._settings.catch_up_records_max)
            placed = self._fold(await self._source.read(self._position, stop))
            self._position = stop
            if placed:
                return placed
        return ()

    def _fold(self, records: Sequence[Record]) -> list[Placed]:
        placed: list[Placed] = []
        for record in records:
            if record.key != self._source.key:
                continue
            try:
                event = serde.decode_token(record.value, record.headers)
            except Malformed:
                # It counts for no reader of the log; the sink's loop puts it among the dead letters.
                continue
            state = advance(self._state, event)
            if state is not self._state:
                self._state = state
                placed.append(Placed(event, record.offset))
        return placed

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
