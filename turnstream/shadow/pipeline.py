"""Recorded turns through the stages of this process: the very code of the live ones, on the run's own topics."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

from consumers.records import outgoing, receive
from consumers.retry import RetryPolicy
from schemas.at_once import at_once
from schemas.errors import Malformed, Retryable, storage_unavailable
from schemas.events import InferenceRequested, TurnSubmitted
from schemas.headers import is_replayed
from schemas.ids import turn_partition
from schemas.ports import BatchProcess, Emit, KeyedProcess, LogReader, Producer, Received, Record, TopicPartition
from schemas.tokens import Refused
from schemas.topics import BY_NAME, INFERENCE_REQUESTS, TOKENS
from stream_processors.topology import AUTH, MODERATION, PROMPT, RATE_LIMIT, StageRow
from turnstream.shadow.changes import Reroute

INFERENCE: Final = "inference"
ROWS: Final = (AUTH, RATE_LIMIT, PROMPT, MODERATION)
STAGES: Final = (*(row.name for row in ROWS), INFERENCE)
RETRY: Final = RetryPolicy(attempts_max=8, total_seconds_max=30)
_STORE_SILENT: Final = storage_unavailable().error.code

# The process of a row for one event: what the prompt stage may see of the history depends on the turn.
ProcessFor = Callable[[Any], BatchProcess]


def rows_between(from_stage: str, until_stage: str) -> tuple[StageRow, ...]:
    """The processors that a run goes through, without inference. Raises ValueError for stages in the wrong order."""
    for name in (from_stage, until_stage):
        if name not in STAGES:
            raise ValueError(f"no such stage: {name}; there are {', '.join(STAGES)}")
    first, last = STAGES.index(from_stage), STAGES.index(until_stage)
    if first > last:
        raise ValueError(f"{until_stage} comes before {from_stage}")
    return ROWS[first : last + 1]


@dataclass(slots=True)
class Tally:
    """What became of the records: ``turns`` went through, ``unreadable`` are poison, ``passed_over`` came again."""

    turns: int = 0
    unreadable: int = 0
    passed_over: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowPorts:
    """``producer`` and ``reader`` are isolated. ``infer``: by pool, empty for a run that ends before inference."""

    rows: Sequence[tuple[StageRow, ProcessFor]]
    infer: Mapping[str, KeyedProcess]
    route: Reroute
    producer: Producer
    reader: LogReader
    now_ms: Callable[[], int]
    in_flight_max: int
    retry: RetryPolicy = RETRY
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep


@dataclass(slots=True)
class ShadowTurns:
    """Call it with records of the first stage's source. Safe to call again with the same ones after a crash.

    ``begun``: of turns that an earlier life of the run began, an offset in their isolated partition before their
    first record. A turn that its account or the policy refuses is an outcome; a store that does not answer is none:
    the call raises Retryable then, after some patience.
    """

    ports: ShadowPorts
    begun: dict[str, int] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)
    _done: set[str] = field(default_factory=set)

    async def __call__(self, records: Sequence[Record]) -> None:
        """Return when every turn among ``records`` has been through. Raises Retryable."""
        taken = self._new(records)
        if not taken:
            return
        starts = await self._starts([received.event.turn.turn_id for received in taken])
        limit = asyncio.Semaphore(self.ports.in_flight_max)

        async def one(received: Received[Any]) -> None:
            turn_id = received.event.turn.turn_id
            async with limit:
                await self._patiently(received, starts[turn_id])
            self._done.add(turn_id)
            del self.begun[turn_id]

        await at_once(one(received) for received in taken)

    def _new(self, records: Sequence[Record]) -> list[Received[Any]]:
        """Without replays, poison, and turns that have been through: what failed and is given again is taken again."""
        taken: list[Received[Any]] = []
        seen: set[str] = set()
        for record in records:
            if is_replayed(record.headers):
                self.tally.passed_over += 1
                continue
            try:
                received = receive(BY_NAME[record.topic], record)
                turn_partition(received.event.turn.turn_id)
            except (Malformed, ValueError):
                self.tally.unreadable += 1
                continue
            turn_id = received.event.turn.turn_id
            if turn_id in self._done or turn_id in seen:
                self.tally.passed_over += 1
                continue
            seen.add(turn_id)
            taken.append(received)
        return taken

    async def _starts(self, turn_ids: Sequence[str]) -> Mapping[str, int]:
        """Of each turn an offset before all that this run has of it, or will."""
        homes = {turn_id: TopicPartition(TOKENS.name, turn_partition(turn_id)) for turn_id in turn_ids}
        ends = await self.ports.reader.end_offsets(list(dict.fromkeys(homes.values())))
        return {turn_id: self.begun.setdefault(turn_id, ends[home]) for turn_id, home in homes.items()}

    async def _patiently(self, received: Received[Any], tokens_from: int) -> None:
        policy, waited_s = self.ports.retry, 0.0
        for attempt in count(1):
            try:
                await self._run(received, tokens_from)
            except Malformed:
                self.tally.unreadable += 1
                return
            except Retryable:
                if policy.exhausted(attempt, waited_s):
                    raise
            else:
                self.tally.turns += 1
                return
            delay_s = policy.delay_s(attempt, random.random())  # noqa: S311 - spreads retries, hides nothing
            await self.ports.sleep(delay_s)
            waited_s += delay_s

    async def _run(self, received: Received[Any], tokens_from: int) -> None:
        emits, request = await self._decide(received)
        if emits:
            await self.ports.producer.append([outgoing(emit, received) for emit in emits])
        if request is None or not self.ports.infer:
            return
        infer = self.ports.infer.get(request.pool)
        if infer is None:
            raise Malformed("pool: no such pool")
        asked = asked_now(request, self.ports.now_ms(), tokens_from)
        await infer(Received(asked, received.record, received.traceparent))

    async def _decide(self, received: Received[Any]) -> tuple[Sequence[Emit], InferenceRequested | None]:
        """Everything that the processors say of the turn, and the request that they end with unless they refuse it."""
        emits: list[Emit] = []
        event = self._routed(received.event)
        for row, process_for in self.ports.rows:
            given = Received(event, received.record, received.traceparent)
            (outcome,) = await process_for(event)([given])
            if isinstance(outcome, Malformed):
                raise outcome
            require_stores(outcome)
            following = None
            for emit in outcome:
                said = emit
                if goes_on(row, emit):
                    following = self._routed(emit.event)
                    said = emit._replace(event=following)
                emits.append(said)
            if following is None:
                return emits, None
            event = following
        return emits, event if isinstance(event, InferenceRequested) else None

    def _routed(self, event: Any) -> Any:
        # Before auth nobody has said yet who answers.
        return event if isinstance(event, TurnSubmitted) else self.ports.route(event)


def goes_on(row: StageRow, emit: Emit) -> bool:
    """Whether ``emit`` is the turn on its way to the next stage."""
    if row is MODERATION:
        return any(emit.topic is topic for topic in INFERENCE_REQUESTS.values())
    return emit.topic is row.sinks[0]


def require_stores(emits: Sequence[Emit]) -> None:
    """Raise Retryable for a refusal that only says that a store did not answer: that is no decision."""
    for emit in emits:
        if isinstance(emit.event, Refused) and emit.event.refusal.error.code == _STORE_SILENT:
            raise Retryable("the store does not answer")


def asked_now(request: InferenceRequested, now_ms: int, tokens_from: int) -> InferenceRequested:
    """The request with as much time as it had when it was new, and with its place in the run's own log."""
    turn = request.turn
    allowance_ms = max(1, turn.deadline_ms - turn.submitted_at_ms)
    changed = {"submitted_at_ms": now_ms, "deadline_ms": now_ms + allowance_ms, "tokens_from": tokens_from}
    return request.model_copy(update={"turn": turn.model_copy(update=changed)})
