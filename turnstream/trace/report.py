"""Records of one turn -> what happened to it. Pure.

Whether a record of the answer counted is decided by the fence reducer, like everywhere else.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from schemas import ids, topics
from schemas.event import Event
from schemas.events import Usage, UsageRecorded
from schemas.ports import Record
from schemas.stream_state import StreamState
from schemas.tokens import AttemptStarted, Cleared, Delta, Finished, Persisted, Terminal
from turnstream.trace.event_words import event_words
from turnstream.trace.reading import EDGE, INFERENCE, MODERATION, SINK, Reading, read_turn


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Step(_Frozen):
    """One record. ``at_ms`` is Unix milliseconds, ``since_submitted_ms`` counts from the time in the turn's id.

    ``counted`` is False for records of the answer that the fence made invisible: zombies and duplicates.
    """

    topic: str
    partition: int
    offset: int
    at_ms: int
    since_submitted_ms: int
    stage: str
    event: str
    what: str
    counted: bool = True


class StageTime(_Frozen):
    """How long a stage had the turn, from its input on the log to its output, in milliseconds."""

    stage: str
    duration_ms: int


class Attempt(_Frozen):
    """One fence that counted, with the deltas and tokens that its owner got onto the answer."""

    attempt: int
    owner: str
    deltas: int
    tokens: int


class TurnReport(_Frozen):
    """The way of one turn. ``outcome`` is ``running`` while no terminal is on the log."""

    turn_id: str
    conversation_id: str | None
    tenant_id: str | None
    user_id: str | None
    model: str | None
    pool: str | None
    submitted_at_ms: int
    outcome: str
    decision: str | None
    usage: Usage | None
    persisted: bool
    attempts: tuple[Attempt, ...]
    stages: tuple[StageTime, ...]
    steps: tuple[Step, ...]


def build_report(turn_id: str, records: Sequence[Record]) -> TurnReport | None:
    """The report over every record found for ``turn_id``, in any order, or None when there is none.

    Raises ValueError for a malformed turn id.
    """
    submitted_at_ms = ids.turn_time_ms(turn_id)
    if not records:
        return None
    state, readings = read_turn(records)
    return TurnReport(
        turn_id=turn_id,
        conversation_id=_first(readings, "conversation_id"),
        tenant_id=_first(readings, "tenant_id"),
        user_id=_first(readings, "user_id"),
        model=_first(readings, "model"),
        pool=_first(readings, "pool"),
        submitted_at_ms=submitted_at_ms,
        outcome="running" if state.terminal is None else event_words(state.terminal),
        decision=_decision(readings),
        usage=_usage(state, readings),
        persisted=state.persisted is not None,
        attempts=_attempts(readings),
        stages=tuple(_stage_times(_milestones(readings))),
        steps=tuple(_step(reading, submitted_at_ms) for reading in readings),
    )


def _step(reading: Reading, submitted_at_ms: int) -> Step:
    record = reading.record
    return Step(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        at_ms=record.timestamp_ms,
        since_submitted_ms=record.timestamp_ms - submitted_at_ms,
        stage=reading.stage,
        event="" if reading.event is None else type(reading.event).__name__,
        what=reading.what,
        counted=reading.counted,
    )


def _milestones(readings: Sequence[Reading]) -> list[tuple[str, int | None]]:
    """When each stage was done, None where its record is missing, in the order of the design."""
    counted = [reading for reading in readings if reading.counted]
    terminal = next((reading for reading in counted if isinstance(reading.event, Terminal)), None)
    ended_by = terminal.stage if terminal else ""
    return [
        (EDGE, _time_on(counted, topics.TURNS_SUBMITTED.name)),
        ("auth", _time_on(counted, topics.TURNS_AUTHORIZED.name)),
        ("rate_limit", _time_on(counted, topics.TURNS_ADMITTED.name)),
        ("prompt", _time_on(counted, topics.TURNS_PROMPTED.name)),
        (MODERATION, _time_of(counted, Cleared)),
        ("inference: take up", _time_of(counted, AttemptStarted)),
        ("inference: first token", _time_of(counted, Delta)),
        (
            "inference: answer" if ended_by == INFERENCE else ended_by,
            terminal.record.timestamp_ms if terminal else None,
        ),
        (SINK, _time_of(counted, Persisted)),
    ]


def _time_on(readings: Iterable[Reading], topic: str) -> int | None:
    return next((reading.record.timestamp_ms for reading in readings if reading.record.topic == topic), None)


def _time_of(readings: Iterable[Reading], kind: type[Event]) -> int | None:
    return next((reading.record.timestamp_ms for reading in readings if isinstance(reading.event, kind)), None)


def _stage_times(milestones: Iterable[tuple[str, int | None]]) -> Iterable[StageTime]:
    """The times between the milestones that were reached."""
    before: int | None = None
    for stage, at_ms in milestones:
        if at_ms is None:
            continue
        if before is not None:
            # The clocks of two machines may disagree by more than a stage takes.
            yield StageTime(stage=stage, duration_ms=max(0, at_ms - before))
        before = at_ms


def _attempts(readings: Sequence[Reading]) -> tuple[Attempt, ...]:
    counted = [reading.event for reading in readings if reading.counted]
    fences = [event for event in counted if isinstance(event, AttemptStarted)]
    deltas = [event for event in counted if isinstance(event, Delta)]
    return tuple(
        Attempt(
            attempt=fence.attempt,
            owner=fence.owner,
            deltas=sum(delta.attempt == fence.attempt for delta in deltas),
            tokens=sum(delta.tokens for delta in deltas if delta.attempt == fence.attempt),
        )
        for fence in fences
    )


def _decision(readings: Sequence[Reading]) -> str | None:
    """The last verdict: what moderation said about the answer overrides what it said about the input."""
    verdicts = [reading.what for reading in readings if reading.record.topic == topics.MODERATION_DECISIONS.name]
    return verdicts[-1] if verdicts else None


def _usage(state: StreamState, readings: Sequence[Reading]) -> Usage | None:
    recorded = [reading.event.usage for reading in readings if isinstance(reading.event, UsageRecorded)]
    if recorded:
        return recorded[-1]
    return state.terminal.usage if isinstance(state.terminal, Finished) else None


def _first(readings: Sequence[Reading], name: str) -> Any:
    """The first value of a field, wherever an event carries it: on itself, its turn or its account."""
    for reading in readings:
        for part in (reading.event, getattr(reading.event, "turn", None), getattr(reading.event, "account", None)):
            if (value := getattr(part, name, None)) is not None:
                return value
    return None
