"""One partition of ``chat.tokens.v1`` as a list, and a sink's ports over it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from schemas.content import Content
from schemas.errors import ErrorBody, ErrorType, OutcomeUnknown, Refusal
from schemas.events import FinishReason, RateLimits, Usage
from schemas.headers import Headers
from schemas.ids import message_seq, new_turn_id
from schemas.messages import Message, Role
from schemas.metrics import Counter, Gauge, Histogram
from schemas.ports import Outgoing, Received, Record, TopicPartition
from schemas.serde import decode_token, encode
from schemas.tokens import AttemptStarted, Cancelled, Cleared, Delta, Failed, Finished, Refused, TokenEvent
from schemas.topics import TOKENS

PARTITION: Final = TopicPartition(TOKENS.name, 3)
START_MS: Final = 1_700_000_000_000
LIMITS: Final = RateLimits(
    limit_requests=10,
    remaining_requests=9,
    reset_requests_ms=0,
    limit_tokens=1000,
    remaining_tokens=900,
    reset_tokens_ms=0,
)
_REFUSAL: Final = Refusal(status=500, error=ErrorBody(message="broken", type=ErrorType.SERVER))


def turn_id_of(number: int) -> str:
    return new_turn_id(START_MS + number, PARTITION.partition, number.to_bytes(8))


def cleared(number: int, *, stored: bool = True, conversation: str = "c1", inputs: int = 1) -> Cleared:
    messages = tuple(Message(role=Role.USER, content=Content(f"question {number}.{i}")) for i in range(inputs))
    return Cleared(
        turn_id=turn_id_of(number),
        conversation_id=conversation,
        tenant_id="tenant",
        user_id="user",
        model="model",
        stored=stored,
        message_seq=message_seq(0, number, 0),
        submitted_at_ms=START_MS + number,
        limits=LIMITS,
        input=messages if stored else (),
    )


def fence(number: int, attempt: int = 1, owner: str = "a") -> AttemptStarted:
    return AttemptStarted(turn_id=turn_id_of(number), attempt=attempt, owner=owner)


def delta(number: int, seq: int, text: str, attempt: int = 1, owner: str = "a") -> Delta:
    return Delta(
        turn_id=turn_id_of(number), attempt=attempt, owner=owner, seq=seq, content=Content(text), tokens=len(text)
    )


def finished(
    number: int, seq: int, attempt: int = 1, owner: str = "a", reason: FinishReason = FinishReason.STOP
) -> Finished:
    usage = Usage(prompt_tokens=7, completion_tokens=seq)
    return Finished(
        turn_id=turn_id_of(number), attempt=attempt, owner=owner, seq=seq, finish_reason=reason, usage=usage
    )


def failed(number: int) -> Failed:
    return Failed(turn_id=turn_id_of(number), refusal=_REFUSAL)


def cancelled(number: int) -> Cancelled:
    return Cancelled(turn_id=turn_id_of(number), reason="client")


def refused(number: int) -> Refused:
    return Refused(turn_id=turn_id_of(number), stage="auth", refusal=_REFUSAL)


def answer(number: int, *texts: str, conversation: str = "c1") -> list[TokenEvent]:
    """A whole turn, from clearance to its end."""
    deltas = [delta(number, seq, text) for seq, text in enumerate(texts)]
    return [cleared(number, conversation=conversation), fence(number), *deltas, finished(number, len(texts))]


@dataclass
class AnswerRecords:
    """The log of one partition. As a ``Producer`` it appends to itself; ``lose_acks`` makes outcomes unknown."""

    now_ms: int = START_MS
    records: list[Received[TokenEvent]] = field(default_factory=list)
    appended: list[TokenEvent] = field(default_factory=list)
    lose_acks: int = 0

    def add(self, *events: TokenEvent, at_ms: int | None = None, headers: Headers = ()) -> None:
        for event in events:
            self.now_ms = self.now_ms + 1 if at_ms is None else at_ms
            record = Record(
                topic=PARTITION.topic,
                partition=PARTITION.partition,
                offset=len(self.records),
                key=None,
                value=b"",
                headers=headers,
                timestamp_ms=self.now_ms,
            )
            self.records.append(Received(event, record, traceparent=None))

    def between(self, start: int, stop: int) -> Sequence[Received[TokenEvent]]:
        return self.records[start:stop]

    async def append(self, records: Sequence[Outgoing]) -> Sequence[int]:
        start = len(self.records)
        for outgoing in records:
            assert outgoing.partition == PARTITION.partition
            event = decode_token(outgoing.value)
            assert encode(event) == outgoing.value
            self.appended.append(event)
            self.add(event)
        if self.lose_acks:
            self.lose_acks -= 1
            raise OutcomeUnknown("the acknowledgement was lost")
        return list(range(start, len(self.records)))


@dataclass
class CountedMetrics:
    """The ``Metrics`` port, remembering totals by name and labels."""

    counts: dict[tuple[str, ...], float] = field(default_factory=dict)
    observed: dict[str, list[float]] = field(default_factory=dict)

    def count(self, name: Counter, amount: float = 1, **labels: str) -> None:
        key = (name, *labels.values())
        self.counts[key] = self.counts.get(key, 0) + amount

    def gauge(self, name: Gauge, value: float, **labels: str) -> None:
        raise AssertionError(f"the sink sets no gauge: {name} {value} {labels}")

    def observe(self, name: Histogram, value: float, **labels: str) -> None:
        assert not labels
        self.observed.setdefault(name, []).append(value)
