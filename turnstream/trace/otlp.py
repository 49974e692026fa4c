"""A turn's trace in OpenTelemetry's protocol (OTLP 1): sent over HTTP, or as OTLP's JSON."""

import base64
import json
from collections.abc import Iterator
from typing import Any, Final

from google.protobuf.json_format import MessageToDict
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from turnstream import __version__
from turnstream.trace.spans import Kind, Span
from turnstream.trace.turn_trace import TurnTrace

SEND_SECONDS_MAX: Final = 10
TRACES_PATH: Final = "/v1/traces"
_KINDS: Final = {kind: SpanKind[kind.name] for kind in Kind}
_NS_PER_MS: Final = 1_000_000
_SCOPE: Final = InstrumentationScope("turnstream.trace", __version__)
_ID_FIELDS: Final = ("traceId", "spanId", "parentSpanId")


def traces_url(url: str) -> str:
    """The address for traces of a collector that is named with or without its path."""
    return url if url.endswith(TRACES_PATH) else url.rstrip("/") + TRACES_PATH


def send(trace: TurnTrace, url: str) -> bool:
    """Send the trace to a collector, with retries within ``SEND_SECONDS_MAX``; whether it took it.

    The environment's ``OTEL_EXPORTER_OTLP_HEADERS`` and certificates count.
    """
    exporter = OTLPSpanExporter(endpoint=traces_url(url), timeout=SEND_SECONDS_MAX)
    try:
        return exporter.export(tuple(_readable(trace))) is SpanExportResult.SUCCESS
    finally:
        exporter.shutdown()  # type: ignore[no-untyped-call] # the SDK's own annotation is missing


def as_json(trace: TurnTrace) -> str:
    """The trace as one OTLP request in JSON: ids in hexadecimal, as OTLP wants them, unlike other JSON of protobuf."""
    message = MessageToDict(encode_spans(tuple(_readable(trace))), use_integers_for_enums=True)
    return json.dumps(_with_hex_ids(message), indent=2)


def _readable(trace: TurnTrace) -> Iterator[ReadableSpan]:
    root = _context(trace, trace.root.span_id(trace.turn_id))
    parent = None if trace.parent_span_id is None else _context(trace, trace.parent_span_id, is_remote=True)
    yield _encode(trace.root, root, parent)
    for span in trace.children:
        yield _encode(span, _context(trace, span.span_id(trace.turn_id)), root)


def _context(trace: TurnTrace, span_id: int, *, is_remote: bool = False) -> SpanContext:
    return SpanContext(trace.trace_id, span_id, is_remote=is_remote, trace_flags=TraceFlags(TraceFlags.SAMPLED))


def _encode(span: Span, context: SpanContext, parent: SpanContext | None) -> ReadableSpan:
    failure = {} if span.error is None else {"error.type": span.error}
    return ReadableSpan(
        name=span.name,
        context=context,
        parent=parent,
        resource=Resource({"service.name": span.service, "service.namespace": "turnstream"}),
        attributes={**span.attributes, **failure},
        events=tuple(Event(one.name, dict(one.attributes), one.at_ms * _NS_PER_MS) for one in span.events),
        kind=_KINDS[span.kind],
        status=Status(StatusCode.UNSET if span.error is None else StatusCode.ERROR),
        start_time=span.start_ms * _NS_PER_MS,
        end_time=span.end_ms * _NS_PER_MS,
        instrumentation_scope=_SCOPE,
    )


def _with_hex_ids(message: Any) -> Any:
    match message:
        case dict():
            return {
                name: base64.b64decode(value).hex() if name in _ID_FIELDS else _with_hex_ids(value)
                for name, value in message.items()
            }
        case list():
            return [_with_hex_ids(one) for one in message]
    return message
