"""In-memory log, backend, policy and clock for the inference stage, with the faults that it must survive."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from consumers.inference.answer import Answer, fold
from consumers.inference.cancel_listener import CancelListener
from consumers.inference.core import InferenceSettings
from consumers.inference.stage import InferTurn
from schemas import ids, serde
from schemas.accounts import Account
from schemas.bills import Billing
from schemas.content import Content
from schemas.errors import Malformed, Retryable
from schemas.events import Decision, InferenceRequested, Prompt, Turn, TurnCancelled, UsageRecorded
from schemas.generation import Sampling
from schemas.messages import Message, Role
from schemas.metrics import Counter, Gauge, Histogram
from schemas.models import Price
from schemas.ports import (
    Generated,
    InferenceBackend,
    OnLanded,
    Outgoing,
    Pile,
    Received,
    Record,
    TopicPartition,
    Verdict,
)
from schemas.tokens import TokenEvent
from schemas.topics import INFERENCE_REQUESTS, TOKENS, TURNS_CANCELLED, USAGE_EVENTS
from tests.support.memory_log import MemoryLog
from tests.support.posting import post

NOW_MS = 1_700_000_000_000
PARTITION = 3
TURN_ID = ids.new_turn_id(NOW_MS, PARTITION, b"entropy!")
SETTINGS = InferenceSettings(backoff_ms_min=1, backoff_ms_max=2, beat_ms_max=0, outage_ms_max=100, stand_back_ms=5)
BILLING = Billing({"demo": Price(input=0.5, cached_input=0.25, output=2.0)}, "north")
WORDS = tuple(f" w{number}" for number in range(8))


class FaultyLog:
    """A ``Producer`` over a MemoryLog. ``faults`` maps the number of an append to whether its records land."""

    def __init__(self) -> None:
        self.memory = MemoryLog(topics={USAGE_EVENTS.name: 1, TURNS_CANCELLED.name: 1})
        self.memory.now_ms = NOW_MS
        self.faults: dict[int, bool] = {}
        self.appends: list[tuple[Outgoing, ...]] = []
        self.before_append: Callable[[], object] | None = None
        self.gate: asyncio.Event | None = None
        self._producer = self.memory.producer()

    def clock(self) -> int:
        return self.memory.now_ms

    async def append(self, records: Sequence[Outgoing]) -> Sequence[int]:
        number = len(self.appends)
        self.appends.append(tuple(records))
        if self.before_append is not None:
            self.before_append()
        if self.gate is not None:
            await self.gate.wait()
        if number in self.faults:
            self.memory.fail_next_append(landing=self.faults[number])
        return await self._producer.append(records)

    def post(self, records: Sequence[Outgoing], on_landed: OnLanded) -> None:
        post(self.append, records, on_landed)

    def write_token(self, event: TokenEvent, key: str = TURN_ID) -> None:
        self.memory.put(TOKENS.name, key.encode(), serde.encode(event), partition=PARTITION)

    def tokens(self) -> list[TokenEvent]:
        """What a reader of the turn understands."""
        events = []
        for record in self.memory.records(TOKENS.name):
            if record.key == TURN_ID.encode():
                with suppress(Malformed):
                    events.append(serde.decode_token(record.value))
        return events

    def answer(self) -> Answer:
        answer = Answer()
        for event in self.tokens():
            answer = fold(answer, event, self.clock())
        return answer

    def bills(self) -> list[UsageRecorded]:
        return [serde.decode(USAGE_EVENTS, record.value) for record in self.memory.records(USAGE_EVENTS.name)]

    async def accepted(self, tokens: int, turn: asyncio.Task[None]) -> None:
        """Wait until the log has accepted ``tokens``, or the turn is over."""
        while self.answer().tokens < tokens and not turn.done():
            await self.memory.change(wait_s=0.05)


@dataclass
class FakeBackend:
    """Says ``words`` after the prefix. ``faults`` maps a generation to (words before it, what is raised).

    With a ``gate``, every word waits for it. A generation that is listed in ``silent`` stops talking there for ever.
    With ``breaks_after_each`` every generation breaks off after so many words.
    """

    words: tuple[str, ...] = WORDS
    finish_reason: str = "stop"
    faults: dict[int, tuple[int, Exception]] = field(default_factory=dict)
    silent: dict[int, int] = field(default_factory=dict)
    prefixes: list[str] = field(default_factory=list)
    budgets: list[int] = field(default_factory=list)
    open: int = 0
    breaks_after_each: int | None = None
    gate: asyncio.Semaphore | None = None
    spoken: int = 0

    async def generate(
        self, request: InferenceRequested, prefix: str, _pile: Pile | None = None
    ) -> AsyncGenerator[Generated, None]:
        number = len(self.prefixes)
        self.prefixes.append(prefix)
        self.budgets.append(request.prompt.max_tokens)
        self.open += 1
        try:
            rest = self.words[self._spoken(prefix) :][: request.prompt.max_tokens]
            for index, word in enumerate(rest):
                await self._before(number, index)
                self.spoken += 1
                yield Generated(text=word, tokens=1)
            await self._before(number, len(rest))
            yield Generated(text="", tokens=0, finish_reason=self.finish_reason)
        finally:
            self.open -= 1

    async def _before(self, number: int, index: int) -> None:
        if self.gate is None:
            await asyncio.sleep(0)
        else:
            await self.gate.acquire()
        if self.silent.get(number) == index:
            await asyncio.Event().wait()
        if self.breaks_after_each == index:
            raise Retryable("broken off")
        after, error = self.faults.get(number, (None, None))
        if after == index and error is not None:
            raise error

    def _spoken(self, prefix: str) -> int:
        assert "".join(self.words).startswith(prefix)
        return next(count for count in range(len(self.words) + 1) if "".join(self.words[:count]) == prefix)

    async def ready(self) -> bool:
        return True

    async def close(self) -> None:
        assert self.open == 0


class FakePolicy:
    version = "test"

    def __init__(self, forbidden: str | None = None) -> None:
        self._forbidden = forbidden

    def judge_output(self, text: str, before: str = "") -> Verdict:
        if self._forbidden is not None and self._forbidden in before + text:
            return Verdict(Decision.BLOCKED_OUTPUT, categories=("test",), rules=("r1",))
        return Verdict(Decision.ALLOWED)


class FakeMetrics:
    def __init__(self) -> None:
        self.counts: dict[tuple[str, tuple[str, ...]], float] = {}
        self.gauges: dict[str, float] = {}
        self.observed: list[str] = []

    def count(self, name: Counter, amount: float = 1, **labels: str) -> None:
        key = (name, tuple(labels.values()))
        self.counts[key] = self.counts.get(key, 0) + amount

    def gauge(self, name: Gauge, value: float, **_labels: str) -> None:
        self.gauges[name] = value

    def observe(self, name: Histogram, value: float, **_labels: str) -> None:
        assert value >= 0
        self.observed.append(name)


@dataclass
class World:
    """Everything around the stage, and stages on it."""

    backend: FakeBackend = field(default_factory=FakeBackend)
    policy: FakePolicy = field(default_factory=FakePolicy)
    metrics: FakeMetrics = field(default_factory=FakeMetrics)
    settings: InferenceSettings = field(default_factory=lambda: SETTINGS)
    log: FaultyLog = field(default_factory=FaultyLog)
    cancels: CancelListener = field(init=False)

    def __post_init__(self) -> None:
        self.cancels = CancelListener(self.log.memory.tail([TopicPartition(TURNS_CANCELLED.name, 0)]))

    def hint(self) -> None:
        """What the edge appends after its ``Cancelled``."""
        event = TurnCancelled(turn_id=TURN_ID, reason="client")
        self.log.memory.put(TURNS_CANCELLED.name, TURN_ID.encode(), serde.encode(event))

    def sleep(self, ms: int) -> None:
        """Let time pass."""
        self.log.memory.now_ms += ms

    def stage(self, owner: str = "owner", backend: InferenceBackend | None = None) -> InferTurn:
        return InferTurn(
            producer=self.log,
            reader=self.log.memory.reader(),
            backend=backend or self.backend,
            policy=self.policy,
            metrics=self.metrics,
            cancels=self.cancels,
            now_ms=self.log.clock,
            owner_id=owner,
            settings=self.settings,
            billing=BILLING,
        )


def make_request(
    *,
    text: str = "Hello",
    max_tokens: int = 100,
    deadline_ms: int = NOW_MS + 60_000,
    sampling: Sampling | None = None,
    messages: tuple[Message, ...] = (),
    tokens_from: int | None = 0,
) -> InferenceRequested:
    turn = Turn(
        turn_id=TURN_ID,
        conversation_id=ids.new_conversation_id(NOW_MS, b"conversati"),
        starts_conversation=True,
        stored=True,
        model="demo",
        sampling=sampling or Sampling(),
        submitted_at_ms=NOW_MS,
        deadline_ms=deadline_ms,
        tokens_from=tokens_from,
    )
    prompt = (*messages, Message(role=Role.USER, content=Content(text)))
    return InferenceRequested(
        turn=turn,
        account=Account(tenant_id="t", user_id="u", key_id="k", plan="free"),
        pool="fast",
        message_seq=0,
        prompt=Prompt(messages=prompt, input_count=1, prompt_tokens=7, max_tokens=max_tokens),
    )


def receive(
    request: InferenceRequested | None = None, headers: tuple[tuple[str, bytes], ...] = ()
) -> Received[InferenceRequested]:
    event = request or make_request()
    topic = INFERENCE_REQUESTS["fast"]
    record = Record(topic.name, 0, 0, b"key", serde.encode(event), headers, NOW_MS)
    return Received(event, record, traceparent=None)


async def settled(condition: Callable[[], bool]) -> None:
    """Let the other tasks run until ``condition`` holds."""
    while not condition():  # noqa: ASYNC110  # what is waited for has no event of its own
        await asyncio.sleep(0)
