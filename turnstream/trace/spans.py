"""The spans of a turn: what one is, and how they are made out of a turn's readings. Pure.

A span of a stage lasts from its input on the log to its output, so the wait in between is in it. Attributes are
OpenTelemetry's for messaging and generative AI where they fit, else ``turnstream.*``; none holds content. Ids follow
from the turn's id and the span's name: a turn that is exported twice is the same trace.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from hashlib import sha256
from typing import Any, Final

from schemas import topics
from schemas.ports import Record
from schemas.tokens import AttemptStarted, Cleared, Delta, Failed, Persisted, Refused, Terminal
from turnstream.trace.reading import EDGE, INFERENCE, SINK, Reading

Attribute = str | int | float | bool | tuple[str, ...]
UNFINISHED: Final = "turnstream.unfinished"


class Kind(Enum):
    """OpenTelemetry's kinds of spans that occur here."""

    SERVER = "server"
    PRODUCER = "producer"
    CONSUMER = "consumer"
    CLIENT = "client"


@dataclass(frozen=True, slots=True)
class SpanEvent:
    """Something at a point of time, Unix milliseconds."""

    name: str
    at_ms: int
    attributes: Mapping[str, Attribute] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Span:
    """One span. Times are Unix milliseconds, by the clocks of those who wrote the records; none ends before it starts.

    ``error`` is the kind of failure, such as a refusal's code, or None.
    """

    name: str
    service: str
    kind: Kind
    start_ms: int
    end_ms: int
    attributes: Mapping[str, Attribute]
    events: tuple[SpanEvent, ...] = ()
    error: str | None = None

    def span_id(self, turn_id: str) -> int:
        """64 bits, never 0, the same whenever they are asked for."""
        text = f"{turn_id}|{self.service}|{self.name}|{self.start_ms}"
        return int.from_bytes(sha256(text.encode()).digest()[:8]) or 1


@dataclass(frozen=True, slots=True)
class _Hop:
    """A stage: what it reads, and what it writes for that."""

    stage: str
    source: str
    output: str | type[Any]


# In the order of the pipeline. Inference is told by its attempts.
_HOPS: Final = (
    _Hop("auth", topics.TURNS_SUBMITTED.name, topics.TURNS_AUTHORIZED.name),
    _Hop("rate_limit", topics.TURNS_AUTHORIZED.name, topics.TURNS_ADMITTED.name),
    _Hop("prompt", topics.TURNS_ADMITTED.name, topics.TURNS_PROMPTED.name),
    _Hop("moderation", topics.TURNS_PROMPTED.name, Cleared),
)


def stage_spans(readings: Sequence[Reading], now_ms: int) -> Iterator[Span]:
    """The hops of a turn, up to ``now_ms`` for one that has read its record and written nothing yet."""
    counted = [reading for reading in readings if reading.counted]
    submitted = _first(counted, topics.TURNS_SUBMITTED.name)
    if submitted is not None:
        start_ms = submitted.event.turn.submitted_at_ms
        name = f"send {submitted.record.topic}"
        times = (start_ms, submitted.record.timestamp_ms)
        yield _span(name, EDGE, Kind.PRODUCER, times, _place(submitted.record, "send"))
    ended = _terminal(counted)
    for hop in _HOPS:
        source = _first(counted, hop.source)
        if source is not None:
            yield _hop_span(hop, source, _answered(counted, hop), ended, now_ms)
    yield from _waits(counted, ended, now_ms)
    yield from _attempts(counted, ended, now_ms)
    yield from _after_the_end(counted, ended)


def _hop_span(hop: _Hop, source: Reading, output: Reading | None, ended: Reading | None, now_ms: int) -> Span:
    attributes = _place(source.record, "process") | _group(hop.source)
    end = output or ended
    if end is None:
        attributes[UNFINISHED] = True
    times = (source.record.timestamp_ms, now_ms if end is None else end.record.timestamp_ms)
    return _span(f"process {hop.source}", hop.stage, Kind.CONSUMER, times, attributes, error=_error(end))


def _answered(counted: Sequence[Reading], hop: _Hop) -> Reading | None:
    """What the stage wrote for its input: its output, its refusal, or its dead letter."""
    for reading in counted:
        written = (
            reading.record.topic == hop.output if isinstance(hop.output, str) else isinstance(reading.event, hop.output)
        )
        if written or (isinstance(reading.event, Refused) and reading.event.stage == hop.stage):
            return reading
        if reading.event is None and reading.stage == hop.stage:
            return reading
    return None


def _waits(counted: Sequence[Reading], ended: Reading | None, now_ms: int) -> Iterator[Span]:
    requested = next((one for one in counted if one.record.topic in _INFERENCE_TOPICS), None)
    if requested is None:
        return
    taken = next((one for one in counted if isinstance(one.event, AttemptStarted)), None) or ended
    attributes = _place(requested.record, "receive") | _group(requested.record.topic)
    if taken is None:
        attributes[UNFINISHED] = True
    times = (requested.record.timestamp_ms, now_ms if taken is None else taken.record.timestamp_ms)
    yield _span(f"receive {requested.record.topic}", INFERENCE, Kind.CONSUMER, times, attributes)


def _attempts(counted: Sequence[Reading], ended: Reading | None, now_ms: int) -> Iterator[Span]:
    fences = [one for one in counted if isinstance(one.event, AttemptStarted)]
    for place, fence in enumerate(fences):
        after = fences[place + 1] if place + 1 < len(fences) else ended
        deltas = [one for one in counted if isinstance(one.event, Delta) and one.event.attempt == fence.event.attempt]
        attributes: dict[str, Attribute] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.usage.output_tokens": sum(one.event.tokens for one in deltas),
            "turnstream.attempt": fence.event.attempt,
            "turnstream.owner": fence.event.owner,
            "turnstream.deltas": len(deltas),
        }
        model = ""
        if fence.event.route is not None:
            model = f" {fence.event.route.model}"
            attributes |= {"gen_ai.request.model": fence.event.route.model, "turnstream.pool": fence.event.route.pool}
        if after is None:
            attributes[UNFINISHED] = True
        yield _span(
            f"chat{model} #{fence.event.attempt}",
            INFERENCE,
            Kind.CLIENT,
            (fence.record.timestamp_ms, now_ms if after is None else after.record.timestamp_ms),
            attributes,
            events=tuple(SpanEvent("first_token", one.record.timestamp_ms) for one in deltas[:1]),
            error="superseded" if after is not None and after is not ended else _error(after),
        )


def _after_the_end(counted: Sequence[Reading], ended: Reading | None) -> Iterator[Span]:
    persisted = next((one for one in counted if isinstance(one.event, Persisted)), None)
    if ended is not None and persisted is not None:
        attributes = _place(ended.record, "process") | _group(ended.record.topic)
        times = (ended.record.timestamp_ms, persisted.record.timestamp_ms)
        yield _span(f"process {ended.record.topic}", SINK, Kind.CONSUMER, times, attributes)
    billed = _first(counted, topics.USAGE_EVENTS.name)
    ledgered = [one for one in counted if one.record.topic == topics.LIMITS_LEDGER.name]
    if billed is not None and ledgered and ledgered[-1].record.timestamp_ms >= billed.record.timestamp_ms:
        attributes = _place(billed.record, "process")
        times = (billed.record.timestamp_ms, ledgered[-1].record.timestamp_ms)
        yield _span(f"process {billed.record.topic}", "rate_limit_settle", Kind.CONSUMER, times, attributes)


def _span(
    name: str, stage: str, kind: Kind, times: tuple[int, int], attributes: Mapping[str, Attribute], **more: Any
) -> Span:
    # The clocks of two machines may disagree by more than a stage takes.
    return Span(name, f"turnstream-{stage}", kind, times[0], max(times), attributes, **more)


def _place(record: Record, operation: str) -> dict[str, Attribute]:
    return {
        "messaging.system": "kafka",
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": record.topic,
        "messaging.destination.partition.id": str(record.partition),
        "messaging.kafka.offset": record.offset,
    }


def _group(topic: str) -> dict[str, Attribute]:
    groups = topics.BY_NAME[topic].groups
    return {"messaging.consumer.group.name": groups[0]} if len(groups) == 1 else {}


def _error(reading: Reading | None) -> str | None:
    """What went wrong, by the record that says so."""
    if reading is None:
        return None
    match reading.event:
        case Refused() | Failed():
            return reading.event.refusal.error.code or reading.event.refusal.error.type.value
        case None:
            return "dead_letter"
    return None


def _terminal(counted: Sequence[Reading]) -> Reading | None:
    return next((reading for reading in counted if isinstance(reading.event, Terminal)), None)


def _first(counted: Sequence[Reading], topic: str) -> Reading | None:
    return next((reading for reading in counted if reading.record.topic == topic and reading.event is not None), None)


_INFERENCE_TOPICS: Final = frozenset(topic.name for topic in topics.INFERENCE_REQUESTS.values())
