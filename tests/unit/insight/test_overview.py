import asyncio
from collections.abc import Mapping

import httpx2
import pytest

from schemas.ports import TopicPartition
from schemas.topics import TURNS_SUBMITTED
from tests.support.screens import shown
from turnstream.insight.lag import Extent, GroupState, LagReport, build_lag
from turnstream.insight.overview import build_overview
from turnstream.insight.scrape import Change, Sample, Scrape, parse_exposition, take_sample
from turnstream.insight.top_screen import render_overview
from turnstream.telemetry.prometheus import PrometheusMetrics

AUTH = "auth"


def sample(at_s: float, **processes: PrometheusMetrics | None) -> Sample:
    return Sample(
        at_s,
        tuple(
            Scrape(name, None, "ConnectError")
            if one is None
            else Scrape(name, parse_exposition(one.exposition().decode()))
            for name, one in processes.items()
        ),
    )


def two_members(first: PrometheusMetrics, second: PrometheusMetrics) -> tuple[Sample, Sample]:
    """Ten seconds, in which ``first`` made 30 records and ``second`` 10."""
    first.count("turnstream_records_total", 5, stage=AUTH, outcome="processed")
    second.count("turnstream_records_total", 100, stage=AUTH, outcome="processed")
    before = sample(100, a=first, b=second)
    first.count("turnstream_records_total", 28, stage=AUTH, outcome="processed")
    first.count("turnstream_records_total", 2, stage=AUTH, outcome="dead_lettered")
    second.count("turnstream_records_total", 10, stage=AUTH, outcome="processed")
    return before, sample(110, a=first, b=second)


def lag() -> LagReport:
    partition = TopicPartition(TURNS_SUBMITTED.name, 0)
    state = GroupState(TURNS_SUBMITTED.groups[0], "Stable", 2, {partition: 3})
    return build_lag([state], {partition: Extent(0, 7)}, {(partition, 3): 1_000}, 1_500)


def test_rates_are_summed_over_members_and_taken_over_the_time_between() -> None:
    overview = build_overview(*two_members(PrometheusMetrics(), PrometheusMetrics()), lag())
    (stage,) = overview.stages
    assert (stage.stage, stage.records_per_s) == (AUTH, 4.0)
    assert (stage.lag_records, stage.lag_ms, stage.members) == (4, 500, 2)


def test_a_process_that_was_started_again_counts_from_nothing_and_a_new_one_not_at_all() -> None:
    before, _ = two_members(PrometheusMetrics(), PrometheusMetrics())
    fresh = PrometheusMetrics()
    fresh.count("turnstream_records_total", 3, stage=AUTH, outcome="processed")
    change = Change(before, sample(110, a=fresh, c=fresh))
    assert change.grown("turnstream_records_total", "stage") == {(AUTH,): 3}


def test_a_process_that_does_not_answer_is_shown_as_such() -> None:
    overview = build_overview(
        sample(0, a=None), sample(2, a=None, b=PrometheusMetrics()), None, "connect: TimeoutError"
    )
    assert [(one.process, one.answers) for one in overview.processes] == [("a", False), ("b", True)]
    screen = shown(render_overview(overview))
    assert "a does not answer (ConnectError)" in screen
    assert "no lag: connect: TimeoutError" in screen


def test_waits_are_quantiles_of_the_time_between_alone() -> None:
    metrics = PrometheusMetrics()
    for _ in range(1_000):
        metrics.observe("turnstream_first_token_seconds", 20, pool="fast")
    before = sample(0, a=metrics)
    for seconds in (0.3, 0.3, 0.3, 1.5):
        metrics.observe("turnstream_first_token_seconds", seconds, pool="fast")
    change = Change(before, sample(2, a=metrics))
    # Three of four lie between 0.25 and 0.5, so half of them are below 0.25 + 0.25 * 2 / 3.
    assert change.quantile("turnstream_first_token_seconds", 0.5, pool="fast") == pytest.approx(0.25 + 0.25 * 2 / 3)
    assert change.quantile("turnstream_first_token_seconds", 0.99, pool="fast") == pytest.approx(1.96)
    assert change.quantile("turnstream_first_token_seconds", 0.5, pool="capable") is None


def test_beyond_the_last_bound_a_quantile_is_that_bound() -> None:
    metrics = PrometheusMetrics()
    before = sample(0, a=metrics)
    metrics.observe("turnstream_edge_first_text_seconds", 500)
    before = sample(0, a=PrometheusMetrics())
    assert Change(before, sample(2, a=metrics)).quantile("turnstream_edge_first_text_seconds", 0.99) == 120


def test_pools_edges_and_failures_are_told() -> None:
    metrics = PrometheusMetrics()
    before = sample(0, edge=metrics)
    metrics.gauge("turnstream_turns_in_flight", 3, pool="fast")
    metrics.gauge("turnstream_pool_breaker_open", 1, pool="fast")
    metrics.gauge("turnstream_queue_seconds_predicted", 1.25)
    metrics.gauge("turnstream_streams_open", 4)
    metrics.count("turnstream_turns_total", 6, pool="fast", finish_reason="stop")
    metrics.count("turnstream_turns_total", 2, pool="fast", finish_reason="failed")
    metrics.count("turnstream_tokens_total", 800, pool="fast", kind="completion")
    metrics.count("turnstream_tokens_total", 40, pool="fast", kind="prompt")
    metrics.count("turnstream_http_requests_total", 20, route="/v1/chat/completions", status="200")
    metrics.count("turnstream_http_requests_total", 4, route="/v1/chat/completions", status="503")
    metrics.count("turnstream_refusals_total", 2, stage="rate_limit", code="rate_limit_exceeded")
    metrics.count("turnstream_stream_errors_total", 1, status="503", code="upstream_unavailable")
    overview = build_overview(before, sample(4, edge=metrics), None)
    (pool,) = overview.pools
    assert (pool.turns_per_s, pool.errors_per_s, pool.tokens_per_s, pool.prompt_tokens_per_s) == (2, 0.5, 200, 10)
    assert (pool.in_flight, pool.breaker_open) == (3, True)
    assert (overview.edge.requests_per_s, overview.edge.streams_open, overview.edge.queue_ms) == (6, 4, 1_250)
    assert [(one.where, one.code, one.per_s) for one in overview.failures] == [
        ("http", "503", 1.0),
        ("rate_limit", "rate_limit_exceeded", 0.5),
        ("stream", "upstream_unavailable", 0.25),
    ]
    assert "upstream_unavailable" in shown(render_overview(overview))


async def test_processes_are_asked_at_once_and_each_answer_stands_for_itself() -> None:
    metrics = PrometheusMetrics()
    metrics.gauge("turnstream_streams_open", 2)
    together = asyncio.Barrier(3)

    async def answer(request: httpx2.Request) -> httpx2.Response:
        await together.wait()
        bodies: Mapping[str, httpx2.Response] = {
            "good": httpx2.Response(200, content=metrics.exposition()),
            "busy": httpx2.Response(503),
            "other": httpx2.Response(200, text="<html>no metrics</html>"),
        }
        return bodies[request.url.host]

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(answer)) as client:
        urls = {name: f"http://{name}/metrics" for name in ("good", "busy", "other")}
        taken = await take_sample(urls, client, lambda: 7.0)
    assert taken.at_s == 7.0
    good, busy, other = taken.scrapes
    assert good.series is not None
    assert good.series["turnstream_streams_open"] == {frozenset(): 2.0}
    assert (busy.series, busy.problem) == (None, "HTTPStatusError")
    assert (other.series, other.problem) == (None, "ValueError")
