"""One owner's hand on one turn of ``chat.tokens.v1``: fence, read back, append."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import structlog

from consumers.inference import core
from consumers.inference.answer import Answer, fold, fold_all, next_attempt
from consumers.inference.core import InferenceSettings
from consumers.inference.pieces import Piece, grow
from schemas import ids, serde
from schemas.errors import Malformed, OutcomeUnknown, Retryable
from schemas.event import Event
from schemas.events import Route, Turn
from schemas.plain_deltas import PlainDeltas
from schemas.ports import LogReader, Outgoing, PostingProducer, Record, TopicPartition
from schemas.tokens import TokenEvent
from schemas.topics import TOKENS, Topic

_log = structlog.get_logger()


class OnKnown(Protocol):
    """Told what became of posted events."""

    def __call__(self, *, known: bool) -> None:
        """Whether they are known to be on the log."""
        ...


class Displaced(Retryable):
    """Another owner has begun since this one did: this process may have been stopped and replaced."""


class TurnLog:
    """What the log says of a turn, kept up to date by reading back and by the owner's own appends.

    ``owner`` must be unique to this run of this turn: a record of an earlier run that lands late must not count.
    """

    def __init__(
        self,
        *,
        producer: PostingProducer,
        reader: LogReader,
        turn: Turn,
        owner: str,
        route: Route,
        traceparent: str | None,
        settings: InferenceSettings,
        now_ms: Callable[[], int],
    ) -> None:
        self.owner = owner
        self.answer = Answer()
        self._producer = producer
        self._reader = reader
        self._turn = turn
        self._route = route
        self._traceparent = traceparent
        self._headers = serde.event_headers(TOKENS, turn.turn_id, traceparent)
        self._settings = settings
        self._now_ms = now_ms
        self._key = turn.turn_id.encode()
        self._source = TopicPartition(TOKENS.name, ids.turn_partition(turn.turn_id))
        # What was read from the log itself, up to ``_position``; ``answer`` is ahead of it by own appends.
        self._verified = Answer()
        self._position: int | None = None
        # Where the own records since then lie, all of which ``answer`` has.
        self._own: set[int] = set()
        self._plain: PlainDeltas | None = None
        self._tried = 0
        # When that began which succeeded last: every step does only if no other owner had begun by then.
        self._verified_at_ms = 0

    async def claim(self) -> int:
        """Become the one writer, or find the turn's terminal: ``answer`` is then what the log says.

        Returns how many fences were lost to other owners. Raises Retryable when the fences ran out or
        the log cannot be read back, Displaced when it took so long that the other may be this one's heir.
        """
        lost, begun_ms = 0, self._now_ms()
        for _ in range(self._settings.fences_per_claim_max):
            if self._now_ms() - begun_ms > self._settings.unverified_ms_max:
                # Whoever began meanwhile may be the heir of a process that was stopped: this one.
                await self.look()
                if self.answer.ended:
                    return lost
            if not await self._append_fence():
                continue
            await self._read_to(self._own_end())
            if self.answer.ended or self.answer.state.owned_by(self._tried, self.owner):
                self._verified_at_ms = begun_ms
                return lost
            lost += 1
            _log.info("fence_lost", turn_id=self._turn.turn_id, attempt=self._tried)
        raise Retryable("the turn could not be fenced within the allowed attempts")

    async def look(self) -> None:
        """Read to the end of the log: ``answer`` is then what it says. Needs that no append is under way.

        Fences nothing: an owner that was stopped must not take the turn back from its heir, only to be told a moment
        later that it left the group. Raises Displaced when somebody else owns the turn, Retryable.
        """
        begun_ms = self._now_ms()
        await self._look_to((await self._reader.end_offsets([self._source]))[self._source], begun_ms)

    @property
    def silent(self) -> bool:
        """Whether this owner was silent for so long that another one may have begun: then look before writing."""
        return self._now_ms() - self._verified_at_ms > self._settings.unverified_ms_max

    async def look_if_silent(self) -> bool:
        """Look before writing if that is so; whether it was. Raises Displaced, Retryable."""
        if not self.silent:
            return False
        await self.look()
        return True

    async def look_back(self) -> None:
        """The same, but only to its own last record: whether that counts, what comes after it does not change.

        Raises Displaced, Retryable.
        """
        await self._look_to(self._own_end(), self._now_ms())

    async def _look_to(self, stop: int, begun_ms: int) -> None:
        await self._read_to(stop)
        if not self.answer.ended and self.answer.state.owner not in {None, self.owner}:
            raise Displaced("another owner writes this turn")
        self._verified_at_ms = begun_ms

    async def append(self, events: Sequence[TokenEvent], others: Sequence[Outgoing] = ()) -> None:
        """Append token events, then ``others``, in one go; ``answer`` follows.

        Raises OutcomeUnknown, RecordTooLarge.
        """
        now = self._now_ms()
        records = [self._outgoing(serde.encode(event), now) for event in events]
        offsets = await self._producer.append([*records, *others])
        self._verified_at_ms = now
        self.answer = fold_all(self.answer, events, now)
        self._own.update(offsets[: len(events)])

    def post(self, pieces: Sequence[Piece], on_landed: OnKnown) -> None:
        """Append the next pieces of the answer without a task that waits for it; ``answer`` follows.

        ``on_landed`` is told whether they are known to be on the log. Raises RecordTooLarge.
        """
        now, first = self._now_ms(), self.answer.state.next_seq
        records = [self._outgoing(self._said(seq, piece), now) for seq, piece in enumerate(pieces, start=first)]

        def landed(offsets: Sequence[int] | None) -> None:
            if offsets is not None:
                self._verified_at_ms = now
                self.answer = grow(self.answer, pieces, now)
                self._own.update(offsets)
            on_landed(known=offsets is not None)

        self._producer.post(records, landed)

    def _said(self, seq: int, piece: Piece) -> bytes:
        """The record value of the delta that says ``piece``."""
        state = self.answer.state
        if piece.choice or piece.calls or piece.logprobs:
            return serde.encode(core.delta(state, self._turn.turn_id, seq, piece))
        if self._plain is None:
            self._plain = PlainDeltas(self._turn.turn_id, state.attempt, state.owner or "")
        return self._plain.encode(seq, piece.text, piece.tokens)

    def _outgoing(self, value: bytes, now_ms: int) -> Outgoing:
        # It bears the time that this owner counts with, so that whoever reads it back comes to the same bill.
        return Outgoing(TOKENS.name, self._key, value, self._headers, self._source.partition, now_ms)

    def record(self, topic: Topic, key: str, event: Event) -> Outgoing:
        """A record about this turn on another topic."""
        headers = serde.event_headers(topic, self._turn.turn_id, self._traceparent)
        return Outgoing(topic.name, key.encode(), serde.encode(event), headers)

    async def _append_fence(self) -> bool:
        """Whether it is known to be on the log."""
        self._tried = next_attempt(self.answer, self._tried)
        self._plain = None
        event = core.fence(self._turn.turn_id, self._tried, self.owner, self._route)
        try:
            await self.append((event,))
        except OutcomeUnknown:
            # It may be there or not: the next fence is higher in either case.
            return False
        return True

    def _own_end(self) -> int:
        return max(self._own) + 1 if self._own else self._position or 0

    async def _read_to(self, stop: int) -> None:
        if self._position is None:
            # Others have written: whoever cleared the turn, and perhaps owners before.
            self._fold(await self._records(await self._start(), stop))
        else:
            found: list[int] = []
            for low, high in self._pages(self._position, stop):
                found += await self._reader.offsets_of(self._source, self._key, low, high)
            # Nobody else wrote about the turn: then the log says what was appended, in that order.
            if not self._own.issuperset(found):
                self._fold(await self._records(found[0], found[-1] + 1))
        self._verified = self.answer
        self._own.clear()
        self._position = stop

    async def _records(self, start: int, stop: int) -> list[Record]:
        found: list[Record] = []
        for low, high in self._pages(start, stop):
            found += await self._reader.read_key(self._source, self._key, low, high)
        return found

    def _pages(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        page = self._settings.readback_records_max
        return ((low, min(low + page, stop)) for low in range(start, stop, page))

    async def _start(self) -> int:
        if self._turn.tokens_from is not None:
            return self._turn.tokens_from
        since_ms = max(0, ids.turn_time_ms(self._turn.turn_id) - self._settings.lookback_ms_max)
        return (await self._reader.offsets_at([self._source], since_ms))[self._source]

    def _fold(self, records: Sequence[Record]) -> None:
        self.answer = self._verified
        for record in records:
            event = self._told(record)
            if event is not None:
                self.answer = fold(self.answer, event, record.timestamp_ms)

    def _told(self, record: Record) -> TokenEvent | None:
        try:
            return serde.decode_token(record.value, record.headers)
        except Malformed:
            # No reader counts what it cannot read, so neither does an owner.
            _log.warning("token_record_unreadable", partition=record.partition, offset=record.offset)
            return None
