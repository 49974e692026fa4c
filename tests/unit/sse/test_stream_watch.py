import pytest

from consumers.sse.core import SseSettings
from consumers.sse.stream_watch import StreamWatch, submitted_s
from schemas import ids
from schemas.errors import server_error
from schemas.events import Turn
from tests.support.answer_records import CountedMetrics

NOW_MS = 1_795_000_000_000
FIRST, GAP, GAPS = (
    "turnstream_edge_first_text_seconds",
    "turnstream_stream_largest_gap_seconds",
    "turnstream_stream_gaps_total",
)


def watched(submitted: float | None = 10.0) -> tuple[StreamWatch, CountedMetrics]:
    metrics = CountedMetrics()
    return StreamWatch(metrics, SseSettings(gap_seconds_max=5), submitted), metrics


def test_the_first_text_counts_from_the_submission_and_once() -> None:
    watch, metrics = watched()
    watch.text(10.4)
    watch.text(11.0)
    assert metrics.observed[FIRST] == [pytest.approx(0.4)]


def test_a_stream_that_was_joined_or_resumed_has_no_first_text() -> None:
    watch, metrics = watched(None)
    watch.text(10.4)
    assert metrics.observed == {}


def test_a_silence_is_a_gap_once_as_soon_as_it_is_too_long() -> None:
    watch, metrics = watched()
    watch.text(11)
    watch.waited(3)
    assert metrics.counts == {}
    watch.waited(3)
    watch.waited(3)
    assert metrics.counts == {(GAPS,): 1}
    watch.text(20)
    watch.waited(4.9)
    watch.ended()
    assert metrics.counts == {(GAPS,): 1}
    assert metrics.observed[GAP] == [9]


def test_waiting_for_the_first_text_is_no_gap() -> None:
    watch, metrics = watched()
    watch.waited(30)
    watch.ended()
    assert (metrics.counts, metrics.observed) == ({}, {})


def test_an_error_frame_is_told_by_status_and_code() -> None:
    watch, metrics = watched()
    watch.failed(server_error("No.", "backend_failed"))
    assert metrics.counts == {("turnstream_stream_errors_total", "500", "backend_failed"): 1}


@pytest.mark.parametrize(("ago_ms", "expected"), [(250, 99.75), (-50, 100.0), (60_000, None)])
def test_a_turn_is_timed_unless_an_earlier_request_submitted_it(ago_ms: int, expected: float | None) -> None:
    turn = Turn(
        turn_id=ids.new_turn_id(NOW_MS, 1, bytes(8)),
        conversation_id=ids.new_conversation_id(NOW_MS, bytes(10)),
        starts_conversation=True,
        stored=False,
        model="turnstream-fast",
        submitted_at_ms=NOW_MS - ago_ms,
        deadline_ms=NOW_MS + 1_000,
    )
    assert submitted_s(turn, lambda: NOW_MS, 100.0) == expected
