from schemas.metrics import COUNTERS, GAUGES, HISTOGRAMS, METRICS
from turnstream.contract_docs.metrics_reference import metrics_markdown, unit_of


def test_every_metric_has_a_kind_and_its_line() -> None:
    assert sorted((*COUNTERS, *GAUGES, *HISTOGRAMS)) == sorted(METRICS)
    page = metrics_markdown()
    for name, metric in METRICS.items():
        (line,) = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
        assert metric.help in line
        assert metric.advice in line


def test_units_follow_from_names() -> None:
    assert unit_of("turnstream_stream_gaps_total") == "gaps"
    assert unit_of("turnstream_loop_progress_timestamp_seconds") == "Unix seconds"
    assert unit_of("turnstream_queue_seconds_predicted") == "seconds"
    assert all(unit_of(name) for name in METRICS)


def test_only_histograms_have_buckets_and_the_objectives_are_among_them() -> None:
    assert {name for name, metric in METRICS.items() if metric.buckets} == set(HISTOGRAMS)
    assert 2 in METRICS["turnstream_edge_first_text_seconds"].buckets
    assert 5 in METRICS["turnstream_stream_largest_gap_seconds"].buckets
