"""One turn as one trace: the HTTP request and, below it, everything that the log has of its way. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from opentelemetry.trace import SpanContext, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from schemas import ids
from schemas.headers import TRACEPARENT, header
from schemas.ports import Record
from schemas.tokens import Cancelled, Failed, Finished, Refused
from turnstream.trace.reading import Reading, read_turn
from turnstream.trace.report import TurnReport, build_report
from turnstream.trace.spans import UNFINISHED, Attribute, Kind, Span, SpanEvent, stage_spans

_ROUTES: Final = {"chat_completions": "/v1/chat/completions", "responses": "/v1/responses"}
_TRACE_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class TurnTrace:
    """The trace of a turn. ``root`` covers the HTTP request, from the submission to the terminal.

    ``parent_span_id`` is the client's span, as its ``traceparent`` says; of a client that sent none the edge made one
    up, which no other span bears. None for records without the header.
    """

    turn_id: str
    trace_id: int
    parent_span_id: int | None
    root: Span
    children: tuple[Span, ...]


def build_trace(turn_id: str, records: Sequence[Record]) -> TurnTrace | None:
    """The trace over every record found for ``turn_id``, in any order, or None when there is none.

    Raises ValueError for a malformed turn id.
    """
    report = build_report(turn_id, records)
    if report is None:
        return None
    state, readings = read_turn(records)
    newest_ms = max(record.timestamp_ms for record in records)
    client = _client_context(records)
    terminal = state.terminal
    ended = None if terminal is None else next(one for one in readings if one.counted and one.event is terminal)
    return TurnTrace(
        turn_id=turn_id,
        trace_id=client.trace_id if client else int.from_bytes(sha256(turn_id.encode()).digest()[:_TRACE_BYTES]) or 1,
        parent_span_id=client.span_id if client else None,
        root=_root(report, readings, ended, newest_ms),
        children=tuple(stage_spans(readings, newest_ms)),
    )


def _root(report: TurnReport, readings: Sequence[Reading], ended: Reading | None, newest_ms: int) -> Span:
    terminal: Any = None if ended is None else ended.event
    end_ms = newest_ms if ended is None else ended.record.timestamp_ms
    attributes = _request(report, readings) | _outcome(report, terminal)
    hidden = sum(not reading.counted for reading in readings)
    if hidden:
        attributes["turnstream.records_not_counted"] = hidden
    letters = tuple(
        SpanEvent("dead_letter", one.record.timestamp_ms, _letter(one))
        for one in readings
        if one.event is None and one.counted
    )
    refusal = terminal.refusal if isinstance(terminal, Refused | Failed) else None
    return Span(
        name=f"POST {attributes['http.route']}",
        service="turnstream-edge",
        kind=Kind.SERVER,
        start_ms=report.submitted_at_ms,
        end_ms=max(report.submitted_at_ms, end_ms),
        attributes=attributes,
        events=letters,
        error=None if refusal is None else refusal.error.code or refusal.error.type.value,
    )


def _request(report: TurnReport, readings: Sequence[Reading]) -> dict[str, Attribute]:
    turn = next((one.event.turn for one in readings if getattr(one.event, "turn", None) is not None), None)
    found: dict[str, Attribute | None] = {
        "http.request.method": "POST",
        "http.route": _ROUTES[turn.api if turn else "chat_completions"],
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "turnstream",
        "gen_ai.request.model": turn.model if turn else report.model,
        "gen_ai.request.max_tokens": turn.max_tokens if turn else None,
        "gen_ai.response.id": ids.public_turn_id(report.turn_id),
        "gen_ai.conversation.id": report.conversation_id,
        "user.id": report.user_id,
        "turnstream.tenant.id": report.tenant_id,
        "turnstream.turn.id": report.turn_id,
        "turnstream.pool": report.pool,
        "turnstream.moderation": report.decision,
        "turnstream.persisted": report.persisted,
        "turnstream.attempts": len(report.attempts),
    }
    return {name: value for name, value in found.items() if value is not None}


def _outcome(report: TurnReport, terminal: Any) -> dict[str, Attribute]:
    found: dict[str, Attribute] = {}
    if report.usage is not None:
        found["gen_ai.usage.input_tokens"] = report.usage.prompt_tokens
        found["gen_ai.usage.output_tokens"] = report.usage.completion_tokens
    match terminal:
        case Finished():
            found["gen_ai.response.finish_reasons"] = (terminal.finish_reason.value,)
        case Cancelled():
            found["gen_ai.response.finish_reasons"] = ("cancelled",)
        case Refused() | Failed():
            found["http.response.status_code"] = terminal.refusal.status
        case _:
            found[UNFINISHED] = True
    return found


def _letter(reading: Reading) -> dict[str, Attribute]:
    return {"messaging.destination.name": reading.record.topic, "turnstream.stage": reading.stage}


def _client_context(records: Sequence[Record]) -> SpanContext | None:
    for record in records:
        text = header(record.headers, TRACEPARENT)
        if text is not None:
            carried = TraceContextTextMapPropagator().extract({"traceparent": text})
            context = get_current_span(carried).get_span_context()
            if context.is_valid:
                return context
    return None
