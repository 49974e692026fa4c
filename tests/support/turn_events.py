"""Events of a turn on its way through the processors, with sensible values for what a test does not care about."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from schemas.accounts import Account, ApiKeyCredential
from schemas.content import Content
from schemas.event import Event
from schemas.events import Prompt, RateLimits, Turn, TurnAdmitted, TurnAuthorized, TurnPrompted, TurnSubmitted
from schemas.ids import new_conversation_id, new_turn_id
from schemas.messages import Message, Role
from schemas.metrics import Counter, Gauge, Histogram
from schemas.ports import Received, Record, StoredMessage
from schemas.topics import Topic

NOW_MS = 1_763_700_000_000
PARTITION = 5
KEY_HASH = "a" * 64
ACCOUNT = Account(tenant_id="acme", user_id="ann", key_id="k1", plan="pro")
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE_ID}-00f067aa0ba902b7-01"
LIMITS = RateLimits(
    limit_requests=60,
    remaining_requests=59,
    reset_requests_ms=1_000,
    limit_tokens=1_000,
    remaining_tokens=900,
    reset_tokens_ms=6_000,
)
EventT = TypeVar("EventT", bound=Event)


def turn_id(number: int = 1, partition: int = PARTITION) -> str:
    return new_turn_id(NOW_MS, partition, number.to_bytes(8))


def conversation_id(number: int = 1) -> str:
    return new_conversation_id(NOW_MS, number.to_bytes(10))


def user(text: str) -> Message:
    return Message(role=Role.USER, content=Content(text))


def assistant(text: str) -> Message:
    return Message(role=Role.ASSISTANT, content=Content(text))


def system(text: str) -> Message:
    return Message(role=Role.SYSTEM, content=Content(text))


def turn(number: int = 1, **changes: object) -> Turn:
    values: dict[str, object] = {
        "turn_id": turn_id(number),
        "conversation_id": conversation_id(number),
        "starts_conversation": True,
        "stored": False,
        "model": "turnstream-fast",
        "submitted_at_ms": NOW_MS,
        "deadline_ms": NOW_MS + 60_000,
    }
    return Turn.model_validate({**values, **changes})


def submitted(of: Turn, *own: Message, key_hash: str = KEY_HASH) -> TurnSubmitted:
    return TurnSubmitted(turn=of, credential=ApiKeyCredential(key_hash=key_hash), input=own or (user("hello"),))


def authorized(of: Turn, *own: Message, account: Account = ACCOUNT, message_seq: int = 1_000) -> TurnAuthorized:
    own = own or (user("hello"),)
    return TurnAuthorized(turn=of, account=account, pool="fast", message_seq=message_seq, input=own)


def admitted(of: Turn, *own: Message, message_seq: int = 1_000) -> TurnAdmitted:
    return TurnAdmitted(
        turn=of,
        account=ACCOUNT,
        pool="fast",
        message_seq=message_seq,
        input=own or (user("hello"),),
        limits=LIMITS,
        reserved_tokens=100,
    )


def prompted(of: Turn, *own: Message, history: Sequence[Message] = (), pool: str = "fast") -> TurnPrompted:
    own = own or (user("hello"),)
    prompt = Prompt(messages=(*history, *own), input_count=len(own), prompt_tokens=10, max_tokens=100)
    return TurnPrompted(turn=of, account=ACCOUNT, pool=pool, message_seq=1_000, limits=LIMITS, prompt=prompt)


def stored(message_seq: int, message: Message, of_turn: int | None = None) -> StoredMessage:
    number = message_seq // 10 if of_turn is None else of_turn
    return StoredMessage(message_seq, turn_id(number), message, complete=True, created_at_ms=NOW_MS)


def received(event: EventT, topic: Topic, offset: int = 0) -> Received[EventT]:
    """As the loop delivers it; stages look at the event and the offset, so the value is left empty."""
    record = Record(topic.name, 0, offset, b"key", b"", (), NOW_MS)
    return Received(event, record, TRACEPARENT)


@dataclass
class CountedMetrics:
    """The ``Metrics`` port that remembers its counts by name and labels."""

    counts: dict[tuple[str, ...], float] = field(default_factory=dict)

    def count(self, name: Counter, amount: float = 1, **labels: str) -> None:
        key = (name, *(f"{label}={value}" for label, value in sorted(labels.items())))
        self.counts[key] = self.counts.get(key, 0) + amount

    def gauge(self, name: Gauge, value: float, **labels: str) -> None:
        """Gauges are not looked at."""

    def observe(self, name: Histogram, value: float, **labels: str) -> None:
        """Histograms are not looked at."""
