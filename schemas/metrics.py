"""Every metric: its name, kind, labels and meaning. The one place.

Names end with their unit (``_seconds``, ``_bytes``) or with ``_total`` for counters. No label holds an id.
"""

from dataclasses import dataclass
from typing import Final, Literal, get_args

Counter = Literal[
    "turnstream_records_total",
    "turnstream_record_retries_total",
    "turnstream_dead_letters_total",
    "turnstream_http_requests_total",
    "turnstream_turns_total",
    "turnstream_refusals_total",
    "turnstream_tokens_total",
    "turnstream_fenced_attempts_total",
    "turnstream_fallbacks_total",
    "turnstream_messages_written_total",
    "turnstream_turns_joined_total",
    "turnstream_streams_resumed_total",
    "turnstream_streams_fell_behind_total",
    "turnstream_dependency_failures_total",
]
Gauge = Literal[
    "turnstream_streams_open",
    "turnstream_turns_in_flight",
    "turnstream_pool_breaker_open",
    "turnstream_assigned_partitions",
    "turnstream_loop_progress_timestamp_seconds",
    "turnstream_queue_seconds_predicted",
]
Histogram = Literal[
    "turnstream_batch_seconds",
    "turnstream_batch_records",
    "turnstream_http_head_seconds",
    "turnstream_first_token_seconds",
    "turnstream_turn_seconds",
    "turnstream_persist_seconds",
]


@dataclass(frozen=True, slots=True)
class Metric:
    """How a metric is exposed; ``buckets`` are upper bounds in the metric's unit, for histograms."""

    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 120)
_RECORDS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500)

METRICS: Final[dict[str, Metric]] = {
    "turnstream_records_total": Metric("Records processed.", ("stage", "outcome")),
    "turnstream_record_retries_total": Metric("Batches or records given again after a Retryable.", ("stage",)),
    "turnstream_dead_letters_total": Metric("Records written to a dead letter topic.", ("stage",)),
    "turnstream_http_requests_total": Metric("HTTP responses by route and status.", ("route", "status")),
    "turnstream_turns_total": Metric("Turns ended, by how they ended.", ("pool", "finish_reason")),
    "turnstream_refusals_total": Metric("Turns refused by a stage.", ("stage", "code")),
    "turnstream_tokens_total": Metric("Tokens generated or read in prompts.", ("pool", "kind")),
    "turnstream_fallbacks_total": Metric("Turns that another pool answers, since theirs cannot begin.", ("pool", "to")),
    "turnstream_fenced_attempts_total": Metric("Attempts that found another owner or a terminal.", ("pool",)),
    "turnstream_messages_written_total": Metric("Rows written to the messages table.", ("status",)),
    "turnstream_turns_joined_total": Metric(
        "Retried requests that met their first turn, by what became of them.", ("outcome",)
    ),
    "turnstream_streams_resumed_total": Metric("Streams picked up again, by where from: log or store.", ("source",)),
    "turnstream_streams_fell_behind_total": Metric("Slow readers sent back to reading the log."),
    "turnstream_dependency_failures_total": Metric("Times that a stage went on without a dependency.", ("dependency",)),
    "turnstream_streams_open": Metric("Client streams open now."),
    "turnstream_pool_breaker_open": Metric("1 while turns with a fallback go past the pool.", ("pool",)),
    "turnstream_turns_in_flight": Metric("Turns generating now.", ("pool",)),
    "turnstream_assigned_partitions": Metric("Partitions held by this member.", ("stage",)),
    "turnstream_loop_progress_timestamp_seconds": Metric("Unix time of the loop's last turn.", ("stage",)),
    "turnstream_queue_seconds_predicted": Metric("Expected wait of a new turn for a GPU, as this edge sees it."),
    "turnstream_batch_seconds": Metric("Time to process one batch.", ("stage",), _SECONDS),
    "turnstream_batch_records": Metric("Records in one batch.", ("stage",), _RECORDS),
    "turnstream_http_head_seconds": Metric("From request to the HTTP status line of a turn.", (), _SECONDS),
    "turnstream_first_token_seconds": Metric("From submission to the first token.", ("pool",), _SECONDS),
    "turnstream_turn_seconds": Metric("From submission to the terminal event.", ("pool",), _SECONDS),
    "turnstream_persist_seconds": Metric("From the terminal event to its persistence.", (), _SECONDS),
}

COUNTERS: Final = get_args(Counter)
GAUGES: Final = get_args(Gauge)
HISTOGRAMS: Final = get_args(Histogram)
