"""The Metrics port over prometheus_client."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import Counter as PrometheusCounter
from prometheus_client import Gauge as PrometheusGauge
from prometheus_client import Histogram as PrometheusHistogram

from schemas.metrics import COUNTERS, GAUGES, HISTOGRAMS, METRICS, Counter, Gauge, Histogram

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class PrometheusMetrics:
    """Every metric of ``schemas.metrics``, in a registry of its own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
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
        metric = self._counters[name]
        (metric.labels(**labels) if labels else metric).inc(amount)

    def gauge(self, name: Gauge, value: float, **labels: str) -> None:
        """Set a gauge."""
        metric = self._gauges[name]
        (metric.labels(**labels) if labels else metric).set(value)

    def watch(self, name: Gauge, value: Callable[[], float], **labels: str) -> None:
        """Let a gauge be what ``value`` says at each scrape; it must be quick and free of I/O."""
        metric = self._gauges[name]
        (metric.labels(**labels) if labels else metric).set_function(value)

    def observe(self, name: Histogram, value: float, **labels: str) -> None:
        """Add an observation, in the unit that the name ends with."""
        metric = self._histograms[name]
        (metric.labels(**labels) if labels else metric).observe(value)

    def gauge_value(self, name: Gauge, **labels: str) -> float:
        """The last value of a gauge, 0 before the first."""
        return self._registry.get_sample_value(name, labels) or 0.0

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)
