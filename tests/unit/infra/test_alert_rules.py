"""Rules and dashboards ask only for what there is, and the alerts ring when they should and not otherwise."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable

import pytest
import yaml

from schemas.metrics import COUNTERS, GAUGES, HISTOGRAMS, METRICS
from tests.support.observability_files import DASHBOARDS, PROMETHEUS, Alert, alerts, expressions, panels, recorded
from tests.support.promql_names import Asked, grouped_by, selectors
from tests.support.promql_values import NOW_S, World
from turnstream.local_stack.processes import METRICS_PORT_FIRST, PROCESSES

# What Prometheus and node_exporter make, with the labels that are used of it.
FOREIGN = {
    "up": {"job", "instance"},
    "node_filesystem_avail_bytes": {"instance", "mountpoint"},
    "node_filesystem_size_bytes": {"instance", "mountpoint"},
}
# Prometheus adds these to every series.
ADDED = {"instance", "job"}


def allowed_labels(asked: Asked) -> set[str]:
    """The labels that the asked series has. Raises KeyError for one that nobody exports."""
    name = asked.metric
    if name in FOREIGN:
        return FOREIGN[name]
    if name in recorded():
        return set()
    base = re.sub(r"_(bucket|sum|count)$", "", name) if name not in METRICS else name
    if (base in HISTOGRAMS) is not (base != name):
        raise KeyError(name)
    bucket = {"le"} if name.endswith("_bucket") else set()
    return {*METRICS[base].labels, *ADDED, *bucket}


@pytest.mark.parametrize("where", expressions())
def test_an_expression_is_promql_over_series_that_exist(where: str) -> None:
    text = expressions()[where]
    labels: set[str] = set()
    for asked in selectors(text):
        allowed = allowed_labels(asked)
        assert asked.labels <= allowed, asked
        labels |= allowed
        if asked.le is not None:
            bounds = METRICS[asked.metric.removesuffix("_bucket")].buckets
            assert asked.le in {str(float(bound)) for bound in bounds}, "as the client library writes bounds"
    assert grouped_by(text) <= labels


def test_rates_are_taken_of_counters_and_values_of_gauges() -> None:
    for where, text in expressions().items():
        names = {match[1] for match in re.finditer(r"(?:rate|increase)\((turnstream_\w+)", text)}
        for name in names:
            base = re.sub(r"_(bucket|sum|count)$", "", name)
            assert name in COUNTERS or base in HISTOGRAMS, where
        for gauge in GAUGES:
            assert not re.search(rf"(rate|increase)\({gauge}\b", text), where


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert.name)
def test_an_alert_says_how_urgent_it_is_and_what_to_do(alert: Alert) -> None:
    assert alert.labels["severity"] in {"page", "ticket"}
    assert set(alert.annotations) == {"summary", "description", "runbook_url"}
    assert len(alert.annotations["description"].split()) > 15
    used = set(re.findall(r"\$labels\.(\w+)", " ".join(alert.annotations.values())))
    kept = grouped_by(alert.expr) or {label for asked in selectors(alert.expr) for label in allowed_labels(asked)}
    assert used <= kept


def test_the_objectives_have_an_alert_each() -> None:
    named = {asked.metric for alert in alerts() for asked in selectors(alert.expr)}
    assert {"turnstream_unterminated_turns_total", "turnstream_stream_gaps_total"} <= named
    assert {name for name in recorded() if "5m" in name} <= named
    assert "0.999" in json.dumps(panels()) or "0.001" in json.dumps(panels())


def test_every_dashboard_can_be_loaded_and_names_the_provisioned_source() -> None:
    boards = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(DASHBOARDS.glob("*.json"))]
    assert len({board["uid"] for board in boards}) == len(boards) >= 3
    source = yaml.safe_load((DASHBOARDS.parent / "provisioning/datasources/prometheus.yml").read_text(encoding="utf-8"))
    uids = {one["uid"] for one in source["datasources"]}
    for board in boards:
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
        for panel in board["panels"]:
            assert {target["datasource"]["uid"] for target in panel["targets"]} <= uids
            assert panel["description"], panel["title"]


def test_prometheus_scrapes_every_process_of_the_local_stack() -> None:
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8"))
    (job,) = config["scrape_configs"]
    ports = {int(target.rpartition(":")[2]) for target in job["static_configs"][0]["targets"]}
    assert job["job_name"] == "turnstream"
    assert ports == {METRICS_PORT_FIRST + place for place in range(len(PROCESSES))}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="Prometheus is not installed here")
def test_promtool_agrees() -> None:
    command = ("promtool", "check", "config", str(PROMETHEUS / "prometheus.yml"))
    checked = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603 - a tool of the machine
    assert checked.returncode == 0, checked.stderr


def healthy() -> World:
    """A busy deployment in which all is well; every labelled series that starts at 0 is there."""
    world = World(recorded=recorded())
    world.put("turnstream_http_requests_total", 100.0, route="/v1/chat/completions", status="200")
    world.put("turnstream_http_requests_total", 5.0, route="/v1/chat/completions", status="429")
    world.put("turnstream_http_requests_total", 9.0, route="/v1/models", status="500")
    world.put("turnstream_stream_errors_total", 50.0, status="503", code="server_shutting_down")
    world.put("turnstream_stream_gaps_total", 0)
    world.put("turnstream_unterminated_turns_total", 0, seen_by="edge")
    first_texts(world, slow=3)
    for name, value in (("assigned_partitions", 4), ("lag_records", 2), ("lag_seconds", 0.1)):
        world.put(f"turnstream_{name}", value, stage="auth", instance="a")
    world.put("turnstream_loop_progress_timestamp_seconds", NOW_S - 0.2, stage="auth", instance="a")
    for name in ("dead_letters", "record_retries"):
        world.put(f"turnstream_{name}_total", 0, stage="auth")
    world.put("turnstream_dependency_failures_total", 0, dependency="redis")
    world.put("turnstream_pool_breaker_open", 0, pool="fast")
    world.put("turnstream_queue_seconds_predicted", 0.4)
    persisted(world, within_5_s=99)
    world.put("turnstream_turns_total", 100, pool="fast", finish_reason="stop")
    world.put("turnstream_usage_rows_total", 100, outcome="written")
    world.put("up", 1, job="turnstream", instance="a")
    world.put("node_filesystem_avail_bytes", 5e10, instance="a", mountpoint="/")
    world.put("node_filesystem_size_bytes", 1e11, instance="a", mountpoint="/")
    return world


def first_texts(world: World, *, slow: float) -> None:
    """Of 100 first texts a second ``slow`` took longer than 2 s."""
    world.put("turnstream_edge_first_text_seconds_bucket", 100 - slow, le="2.0")
    world.put("turnstream_edge_first_text_seconds_count", 100)


def persisted(world: World, *, within_5_s: float) -> None:
    """Of 100 answers a second, so many were stored within 5 s, all within 10."""
    for bound, count in (("1.0", within_5_s), ("5.0", within_5_s), ("10.0", 100.0), ("+Inf", 100.0)):
        world.put("turnstream_persist_seconds_bucket", count, le=bound)


def ringing(world: World) -> set[str]:
    return {alert.name for alert in alerts() if world.value(alert.expr)}


def put(name: str, value: float, **labels: str) -> Callable[[World], None]:
    return lambda world: world.put(name, value, **labels)


def grows(world: World) -> None:
    world.put("turnstream_lag_records", 500, stage="auth", instance="a")
    world.put("turnstream_lag_seconds", 45, stage="auth", instance="a")
    world.grows["turnstream_lag_records"] = {frozenset((("stage", "auth"), ("instance", "a"))): 2.0}


def disk_shrinks(world: World) -> None:
    world.grows["node_filesystem_avail_bytes"] = {frozenset((("instance", "a"), ("mountpoint", "/"))): -1e6}


FAST, SLOW = "AvailabilityBudgetBurnsFast", "AvailabilityBudgetBurnsSlowly"
TURNS = "turnstream_http_requests_total"
CASES: dict[str, tuple[Callable[[World], None], set[str]]] = {
    "a tenth of a percent fails": (put(TURNS, 0.09, route="/v1/responses", status="503"), set()),
    "a little more": (put(TURNS, 0.2, route="/v1/chat/completions", status="500"), {SLOW}),
    "two percent": (put(TURNS, 2, route="/v1/chat/completions", status="500"), {FAST, SLOW}),
    "in the middle of streams": (put("turnstream_stream_errors_total", 2, status="503", code="x"), {FAST, SLOW}),
    "what a client did wrong": (put("turnstream_stream_errors_total", 2, status="400", code="x"), set()),
    "first texts are late": (lambda world: first_texts(world, slow=6), {"FirstTextTooSlow"}),
    "a gap": (put("turnstream_stream_gaps_total", 0.01), {"StreamsHaveGaps"}),
    "a turn that never ended": (
        put("turnstream_unterminated_turns_total", 0.002, seen_by="sink"),
        {"TurnsUnterminated"},
    ),
    "a process is gone": (put("up", 0, job="turnstream", instance="b"), {"ProcessDown"}),
    "somebody else's is": (put("up", 0, job="node", instance="b"), set()),
    "a loop hangs": (
        put("turnstream_loop_progress_timestamp_seconds", NOW_S - 61, stage="prompt", instance="a"),
        {"LoopStuck"},
    ),
    "one of two loops of a stage hangs": (
        put("turnstream_loop_progress_timestamp_seconds", NOW_S - 61, stage="auth", instance="b"),
        {"LoopStuck"},
    ),
    "one member without partitions": (
        put("turnstream_assigned_partitions", 0, stage="auth", instance="b"),
        set(),
    ),
    "no member has any": (put("turnstream_assigned_partitions", 0, stage="prompt", instance="a"), {"StageUnassigned"}),
    "lag grows": (grows, {"LagGrows"}),
    "a lag that shrinks": (put("turnstream_lag_records", 5_000, stage="auth", instance="a"), set()),
    "half of the retention": (put("turnstream_lag_seconds", 44_000, stage="auth", instance="a"), {"RetentionNear"}),
    "a dead letter": (put("turnstream_dead_letters_total", 0.002, stage="auth"), {"DeadLetters"}),
    "retries": (put("turnstream_record_retries_total", 0.1, stage="auth"), {"RetriesGoOn"}),
    "redis is lost": (put("turnstream_dependency_failures_total", 3, dependency="redis"), {"DependencyLost"}),
    "a breaker is open": (put("turnstream_pool_breaker_open", 1, pool="fast"), {"PoolBreakerOpen"}),
    "a long queue": (put("turnstream_queue_seconds_predicted", 7), {"QueueTooLong"}),
    "a slow history": (lambda world: persisted(world, within_5_s=90), {"PersistSlow"}),
    "no usage is published": (put("turnstream_usage_rows_total", 0, outcome="written"), {"UsageNotPublished"}),
    "a full disk": (put("node_filesystem_avail_bytes", 9e9, instance="a", mountpoint="/"), {"DiskFillsUp"}),
    "a disk that will be": (disk_shrinks, {"DiskFillsUp"}),
}


def test_nothing_rings_while_all_is_well() -> None:
    assert ringing(healthy()) == set()


def test_nothing_rings_while_nobody_asks_anything() -> None:
    world = healthy()
    for name in [name for name in world.series if name.startswith("turnstream_") and name.endswith("_total")]:
        world.series[name] = dict.fromkeys(world.series[name], 0.0)
    assert ringing(world) == set()


@pytest.mark.parametrize("case", CASES)
def test_what_rings(case: str) -> None:
    change, expected = CASES[case]
    world = healthy()
    change(world)
    assert ringing(world) == expected


def test_every_alert_has_a_case() -> None:
    assert set().union(*(expected for _, expected in CASES.values())) == {alert.name for alert in alerts()}
