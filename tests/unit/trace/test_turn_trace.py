"""Records -> spans -> OTLP, and a collector that takes them."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from opentelemetry.proto.trace.v1.trace_pb2 import Span as ProtoSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status
from typer.testing import CliRunner, Result

from schemas import headers, topics
from schemas.ports import Record
from tests.support.otlp_receiver import otlp_receiver
from tests.support.told_turn import PRIVATE, T0, TURN, Log, example, fence, taken_over_turn
from turnstream.commands import trace as trace_command
from turnstream.commands.exits import Exit
from turnstream.trace import otlp
from turnstream.trace.search import Found
from turnstream.trace.spans import UNFINISHED, Kind, Span
from turnstream.trace.turn_trace import TurnTrace, build_trace

TRACE_ID, CLIENT_SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = headers.make_headers(((headers.TRACEPARENT, f"00-{TRACE_ID}-{CLIENT_SPAN}-01"),))


def traced(records: list[Record]) -> TurnTrace:
    trace = build_trace(TURN, records)
    assert trace is not None
    return trace


def by_service(trace: TurnTrace) -> dict[str, list[Span]]:
    found: dict[str, list[Span]] = {}
    for span in trace.children:
        found.setdefault(span.service.removeprefix("turnstream-"), []).append(span)
    return found


def test_the_trace_goes_from_http_to_persisted_over_every_stage() -> None:
    trace = traced(taken_over_turn().records)
    assert [(span.service.removeprefix("turnstream-"), span.name) for span in trace.children] == [
        ("edge", "send chat.turns.submitted.v1"),
        ("auth", "process chat.turns.submitted.v1"),
        ("rate_limit", "process chat.turns.authorized.v1"),
        ("prompt", "process chat.turns.admitted.v1"),
        ("moderation", "process chat.turns.prompted.v1"),
        ("inference", "receive inference.requests.fast.v1"),
        ("inference", "chat #1"),
        ("inference", "chat #2"),
        ("cassandra_sink", "process chat.tokens.v1"),
    ]
    assert {span.service: span.end_ms - span.start_ms for span in trace.children[1:5]} == {
        "turnstream-auth": 3,
        "turnstream-rate_limit": 4,
        "turnstream-prompt": 5,
        "turnstream-moderation": 6,
    }


def test_the_root_is_the_request_until_the_terminal() -> None:
    log = taken_over_turn()
    root = traced(log.records).root
    terminal = next(record for record in log.records if b'"finished"' in record.value)
    assert (root.kind, root.name, root.start_ms, root.end_ms) == (
        Kind.SERVER,
        "POST /v1/chat/completions",
        T0,
        terminal.timestamp_ms,
    )
    assert root.attributes["gen_ai.request.model"] == "turnstream-fast"
    assert root.attributes["gen_ai.usage.output_tokens"] == 14
    assert root.attributes["gen_ai.response.finish_reasons"] == ("stop",)
    # What the zombie wrote on.
    assert root.attributes["turnstream.records_not_counted"] == 1
    assert UNFINISHED not in root.attributes


def test_an_attempt_that_was_taken_over_says_so_and_each_has_its_first_token() -> None:
    first, second = by_service(traced(taken_over_turn().records))["inference"][1:]
    assert (first.error, second.error) == ("superseded", None)
    assert first.end_ms == second.start_ms
    assert [len(span.events) for span in (first, second)] == [1, 1]
    assert first.events[0].at_ms - first.start_ms == 20
    assert (first.attributes["turnstream.owner"], first.attributes["gen_ai.usage.output_tokens"]) == ("a", 4)


def test_a_place_on_the_log_is_named_as_opentelemetry_names_it() -> None:
    (auth,) = by_service(traced(taken_over_turn().records))["auth"]
    assert auth.attributes == {
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": topics.TURNS_SUBMITTED.name,
        "messaging.destination.partition.id": "5",
        "messaging.kafka.offset": 0,
        "messaging.consumer.group.name": "turnstream.auth",
    }


def test_the_trace_is_the_clients_if_it_brought_one() -> None:
    log = Log()
    log.add("chat.turns.submitted.v1", example("chat.turns.submitted.v1", "continues_conversation"), extra=TRACEPARENT)
    trace = traced(log.records)
    assert (f"{trace.trace_id:032x}", f"{trace.parent_span_id or 0:016x}") == (TRACE_ID, CLIENT_SPAN)


@pytest.mark.parametrize("text", [None, "00-zero-zero-01", f"00-{'0' * 32}-{CLIENT_SPAN}-01"])
def test_without_one_it_follows_from_the_turn(text: str | None) -> None:
    log = Log()
    log.add("chat.tokens.v1", fence(1, "a"), extra=headers.make_headers(((headers.TRACEPARENT, text),)))
    first, second = traced(log.records), traced(log.records)
    assert first.parent_span_id is None
    assert first.trace_id == second.trace_id > 0


def test_where_a_turn_hangs_its_span_is_unfinished() -> None:
    log = Log()
    log.way_to_the_gpu()
    trace = traced(log.records)
    assert trace.root.attributes[UNFINISHED] is True
    (waiting,) = by_service(trace)["inference"]
    assert waiting.attributes[UNFINISHED] is True
    log.add("chat.tokens.v1", fence(1, "a"))
    log.delta(0, 1, "a")
    receive, attempt = by_service(traced(log.records))["inference"]
    assert UNFINISHED not in receive.attributes
    assert attempt.attributes[UNFINISHED] is True
    assert attempt.end_ms == log.at_ms


def test_a_refusal_is_the_error_of_its_stage_and_of_the_request() -> None:
    log = Log()
    log.add("chat.turns.submitted.v1", example("chat.turns.submitted.v1", "continues_conversation"), after_ms=1)
    log.add("chat.turns.authorized.v1", example("chat.turns.authorized.v1", "stored"), after_ms=2)
    log.add("chat.tokens.v1", example("chat.tokens.v1", "refused_over_quota"), after_ms=3)
    trace = traced(log.records)
    (auth,), (limit,) = by_service(trace)["auth"], by_service(trace)["rate_limit"]
    assert (auth.error, limit.error, trace.root.error) == (None, "rate_limit_exceeded", "rate_limit_exceeded")
    assert trace.root.attributes["http.response.status_code"] == 429
    assert limit.end_ms - limit.start_ms == 3


def test_a_dead_letter_ends_its_stage_and_marks_the_request() -> None:
    log = Log()
    log.add("chat.turns.submitted.v1", example("chat.turns.submitted.v1", "continues_conversation"))
    told = ((headers.DLQ_STAGE, "auth"), (headers.DLQ_ERROR, "no"))
    log.add("chat.turns.submitted.v1.dlq", b"{", after_ms=4, extra=headers.make_headers(told))
    log.add("chat.tokens.v1", example("chat.tokens.v1", "failed_unconditionally"), after_ms=0)
    trace = traced(log.records)
    (auth,) = by_service(trace)["auth"]
    assert (auth.error, auth.end_ms - auth.start_ms) == ("dead_letter", 4)
    assert [(one.name, one.attributes["turnstream.stage"]) for one in trace.root.events] == [("dead_letter", "auth")]
    assert trace.root.error is not None


def test_clocks_that_disagree_make_no_negative_span() -> None:
    log = Log()
    log.add("chat.turns.submitted.v1", example("chat.turns.submitted.v1", "continues_conversation"), after_ms=20)
    log.add("chat.turns.authorized.v1", example("chat.turns.authorized.v1", "stored"), after_ms=-8)
    assert all(span.end_ms >= span.start_ms for span in traced(log.records).children)


def test_no_records_make_no_trace() -> None:
    assert build_trace(TURN, []) is None


def json_spans(trace: TurnTrace) -> list[dict[str, Any]]:
    document = json.loads(otlp.as_json(trace))
    scopes = [scope for resource in document["resourceSpans"] for scope in resource["scopeSpans"]]
    return [span for scope in scopes for span in scope["spans"]]


def test_otlp_json_has_hexadecimal_ids_and_one_parent() -> None:
    trace = traced(taken_over_turn().records)
    root, *children = json_spans(trace)
    assert root["name"] == "POST /v1/chat/completions"
    assert {span["traceId"] for span in (root, *children)} == {f"{trace.trace_id:032x}"}
    assert {span["parentSpanId"] for span in children} == {root["spanId"]}
    assert len({span["spanId"] for span in children}) == len(children)
    assert int(root["startTimeUnixNano"]) == T0 * 1_000_000
    assert json_spans(trace) == json_spans(traced(taken_over_turn().records)), "exported twice, it is the same trace"


def test_nothing_that_was_said_is_in_the_spans() -> None:
    assert PRIVATE not in otlp.as_json(traced(taken_over_turn().records))


@pytest.mark.parametrize("given", ["http://c:4318", "http://c:4318/", "http://c:4318/v1/traces"])
def test_a_collector_is_named_with_or_without_its_path(given: str) -> None:
    assert otlp.traces_url(given) == "http://c:4318/v1/traces"


def invoke(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Result:
    found = Found(tuple(taken_over_turn().records), ())
    monkeypatch.setattr(trace_command, "search_turn", lambda *_: (TURN, found))
    app = typer.Typer()
    trace_command.register(app)
    return CliRunner().invoke(app, [TURN, *arguments])


def test_a_collector_gets_every_span_with_its_service(monkeypatch: pytest.MonkeyPatch) -> None:
    with otlp_receiver() as receiver:
        result = invoke(monkeypatch, "--otlp", receiver.url)
    assert result.exit_code == 0, result.stderr
    assert receiver.paths == [otlp.TRACES_PATH]
    services = [service for service, _ in receiver.spans]
    assert {"turnstream-edge", "turnstream-auth", "turnstream-inference", "turnstream-cassandra_sink"} <= set(services)
    failed = [span.name for _, span in receiver.spans if span.status.code == Status.STATUS_CODE_ERROR]
    assert failed == ["chat #1"]
    kinds = {span.name: span.kind for _, span in receiver.spans}
    assert kinds["POST /v1/chat/completions"] == ProtoSpan.SPAN_KIND_SERVER
    assert kinds["process chat.tokens.v1"] == ProtoSpan.SPAN_KIND_CONSUMER


def test_a_collector_that_refuses_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with otlp_receiver(status=400) as receiver:
        result = invoke(monkeypatch, "--otlp", receiver.url)
    assert result.exit_code == Exit.FAILED
    assert "the collector did not take the spans" in result.stderr


def test_a_file_or_standard_output_gets_json(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "trace.json"
    assert invoke(monkeypatch, "--otlp-json", str(file)).exit_code == 0
    printed = invoke(monkeypatch, "--otlp-json", "-")
    assert json.loads(printed.stdout) == json.loads(file.read_text(encoding="utf-8"))
    assert invoke(monkeypatch, "--otlp-json", str(tmp_path / "no" / "file")).exit_code == Exit.FAILED
