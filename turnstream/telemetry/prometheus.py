"""The Metrics port over prometheus_client."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import Counter as PrometheusCounter
from prometheus_client import Gauge as PrometheusGauge
from prometheus_client import Histogram as PrometheusHistogram

from schemas.metrics import COUNTERS, GAUGES, HISTOGRAMS, METRICS, Counter, Gauge, Histogram

_MetricT = TypeVar("_MetricT", PrometheusCounter, PrometheusGauge, PrometheusHistogram)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class PrometheusMetrics:
    """Every metric of ``schemas.metrics``, in a registry of its own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        # Looking a child up by its labels costs the library more than counting.
        self._children: dict[tuple[object, ...], Any] = {}
        self._counters = {
            name: PrometheusCounter(name, METRICS[name].help, METRICS[name].labels, registry=self._registry)
            for name in COUNTERS
        }
        self._gauges = {
            name: PrometheusGauge(name, METRICS[name].help, METRICS[name].labels, registry=self._registry)
            for name in GAUGES
        }
        self._histograms = {
            name: PrometheusHistogram(
                name, METRICS[name].help, METRICS[name].labels, buckets=METRICS[name].buckets, registry=self._registry
            )
            for name in HISTOGRAMS
        }

    def count(self, name: Counter, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""
        self._child(self._counters[name], labels).inc(amount)

    def gauge(self, name: Gauge, value: float, **labels: str) -> None:
        """Set a gauge."""
        self._child(self._gauges[name], labels).set(value)

    def watch(self, name: Gauge, value: Callable[[], float], **labels: str) -> None:
        """Let a gauge be what ``value`` says at each scrape; it must be quick and free of I/O."""
        self._child(self._gauges[name], labels).set_function(value)

    def observe(self, name: Histogram, value: float, **labels: str) -> None:
        """Add an observation, in the unit that the name ends with."""
        self._child(self._histograms[name], labels).observe(value)

    def gauge_value(self, name: Gauge, **labels: str) -> float:
        """The last value of a gauge, 0 before the first."""
        return self._registry.get_sample_value(name, labels) or 0.0

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def _child(self, metric: _MetricT, labels: Mapping[str, str]) -> _MetricT:
        if not labels:
            return metric
        key = (metric, *labels.items())
        child: _MetricT | None = self._children.get(key)
        if child is None:
            child = self._children[key] = metric.labels(**labels)
        return child
