"""Every metric: its name, kind, labels, meaning and what it asks an operator to do. The one place.

Names end with their unit (``_seconds``, ``_bytes``) or with ``_total`` for counters. No label holds an id.
``docs/metrics.md`` is generated from here; dashboards and alerts are checked against it.
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
    "turnstream_usage_rows_total",
    "turnstream_turns_joined_total",
    "turnstream_streams_resumed_total",
    "turnstream_streams_fell_behind_total",
    "turnstream_stream_gaps_total",
    "turnstream_stream_errors_total",
    "turnstream_unterminated_turns_total",
    "turnstream_dependency_failures_total",
    "turnstream_abuse_signals_total",
    "turnstream_abuse_turns_total",
]
Gauge = Literal[
    "turnstream_streams_open",
    "turnstream_turns_in_flight",
    "turnstream_pool_breaker_open",
    "turnstream_assigned_partitions",
    "turnstream_lag_records",
    "turnstream_lag_seconds",
    "turnstream_loop_progress_timestamp_seconds",
    "turnstream_queue_seconds_predicted",
]
Histogram = Literal[
    "turnstream_batch_seconds",
    "turnstream_batch_records",
    "turnstream_http_head_seconds",
    "turnstream_edge_first_text_seconds",
    "turnstream_stream_largest_gap_seconds",
    "turnstream_first_token_seconds",
    "turnstream_turn_seconds",
    "turnstream_persist_seconds",
]


@dataclass(frozen=True, slots=True)
class Metric:
    """How a metric is exposed; ``buckets`` are upper bounds in the metric's unit, for histograms.

    ``advice``: when to look at it, and what to do then.
    """

    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    advice: str = ""


_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 120)
_RECORDS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500)

METRICS: Final[dict[str, Metric]] = {
    "turnstream_records_total": Metric(
        "Records processed.",
        ("stage", "outcome"),
        advice="A stage whose rate is 0 while the one before it works is stuck: `turnstream lag`.",
    ),
    "turnstream_record_retries_total": Metric(
        "Batches or records given again after a Retryable.",
        ("stage",),
        advice="Growing: a dependency does not answer; the log line `batch_retried` names it.",
    ),
    "turnstream_dead_letters_total": Metric(
        "Records written to a dead letter topic.", ("stage",), advice="Any growth: read the dead letters' reasons."
    ),
    "turnstream_http_requests_total": Metric(
        "HTTP responses by route and status.",
        ("route", "status"),
        advice="5xx on a route of turns spends the error budget; 429 is a client's limit and does not.",
    ),
    "turnstream_turns_total": Metric("Turns ended, by how they ended.", ("pool", "finish_reason")),
    "turnstream_refusals_total": Metric(
        "Turns refused by a stage.",
        ("stage", "code"),
        advice="A sudden rise: the code says whose fault; `turnstream limits explain TURN_ID` for one of them.",
    ),
    "turnstream_tokens_total": Metric("Tokens generated or read in prompts.", ("pool", "kind")),
    "turnstream_fallbacks_total": Metric(
        "Turns that another pool answers, since theirs cannot begin.",
        ("pool", "to"),
        advice="Above 0: the pool's GPU servers cannot begin answers.",
    ),
    "turnstream_fenced_attempts_total": Metric(
        "Attempts that found another owner or a terminal.",
        ("pool",),
        advice="Owners take turns over from each other: restarts, rebalances or stalls.",
    ),
    "turnstream_messages_written_total": Metric("Rows written to the messages table.", ("status",)),
    "turnstream_usage_rows_total": Metric(
        "Usage rows by what became of them: written, or repeated (a repeated bill, or in a file already).",
        ("outcome",),
        advice="No `written` while turns end: nothing is published; the log line `usage_not_published` says why.",
    ),
    "turnstream_turns_joined_total": Metric(
        "Retried requests that met their first turn, by what became of them.", ("outcome",)
    ),
    "turnstream_streams_resumed_total": Metric("Streams picked up again, by where from: log or store.", ("source",)),
    "turnstream_streams_fell_behind_total": Metric("Slow readers sent back to reading the log."),
    "turnstream_stream_gaps_total": Metric(
        "Silences inside a stream that were longer than `TURNSTREAM_SSE__GAP_SECONDS_MAX` (5 s).",
        advice="Spends the budget of smooth streams: a GPU server or inference process stalls or was replaced.",
    ),
    "turnstream_stream_errors_total": Metric(
        "Streams that ended with an error frame after their status 200.",
        ("status", "code"),
        advice="5xx spends the error budget, but for `server_shutting_down`, which clients resume from.",
    ),
    "turnstream_unterminated_turns_total": Metric(
        "Turns past their deadline and its grace without an end on the log.",
        ("seen_by",),
        advice="Must stay 0: the log line `turn_unterminated` or `turn_given_up` names it: `turnstream trace`.",
    ),
    "turnstream_dependency_failures_total": Metric(
        "Times that a stage went on without a dependency.",
        ("dependency",),
        advice="Growing: that server is down or slow; see the degradation table.",
    ),
    "turnstream_abuse_signals_total": Metric(
        "Abuse signals given, by the level that they set.",
        ("level",),
        advice="A jump: look at who it is with `turnstream abuse list` before thresholds hit the innocent.",
    ),
    "turnstream_abuse_turns_total": Metric(
        "Turns of users who stood on the ladder: warned and slowed ones went on, suspended ones did not.",
        ("level",),
        advice="`suspend` growing: somebody keeps knocking; `turnstream abuse list` says who.",
    ),
    "turnstream_streams_open": Metric("Client streams open now."),
    "turnstream_pool_breaker_open": Metric(
        "1 while turns with a fallback go past the pool.", ("pool",), advice="1: look at the pool's GPU servers."
    ),
    "turnstream_turns_in_flight": Metric(
        "Turns generating now.", ("pool",), advice="At `TURNS_IN_FLIGHT_MAX` for minutes: the pool needs more GPUs."
    ),
    "turnstream_assigned_partitions": Metric(
        "Partitions held by this member.", ("stage",), advice="0 on every member: nobody works for this stage."
    ),
    "turnstream_lag_records": Metric(
        "Records that the broker has and this member was not given yet, by the broker's last answer.",
        ("stage",),
        advice="Growing: the stage is too slow or paused; `turnstream lag` tells what is not committed, too.",
    ),
    "turnstream_lag_seconds": Metric(
        "Age of the newest record that this member was given, on its oldest partition that has more.",
        ("stage",),
        advice="Near a topic's retention: records are about to be lost unread.",
    ),
    "turnstream_loop_progress_timestamp_seconds": Metric(
        "Unix time of the loop's last turn.",
        ("stage",),
        advice="Older than a minute: the stage is stuck; restart its process, redelivery is safe.",
    ),
    "turnstream_queue_seconds_predicted": Metric(
        "Expected wait of a new turn for a GPU, as this edge sees it.",
        advice="Near `TURNSTREAM_INGEST__QUEUE_SECONDS_MAX` new turns are refused: more GPUs, or fewer turns.",
    ),
    "turnstream_batch_seconds": Metric("Time to process one batch.", ("stage",), _SECONDS),
    "turnstream_batch_records": Metric("Records in one batch.", ("stage",), _RECORDS),
    "turnstream_http_head_seconds": Metric(
        "From request to the HTTP status line of a turn.",
        (),
        _SECONDS,
        advice="Slow: one of auth, rate_limit, prompt and moderation is; `turnstream trace` a turn.",
    ),
    "turnstream_edge_first_text_seconds": Metric(
        "From a turn's submission to its first text on the client's connection.",
        (),
        _SECONDS,
        advice="What users feel; compare with `turnstream_first_token_seconds` to see whose part it is.",
    ),
    "turnstream_stream_largest_gap_seconds": Metric(
        "The longest silence inside one stream after its first text, a slow reader's own time left out.", (), _SECONDS
    ),
    "turnstream_first_token_seconds": Metric(
        "From submission to the first token, as inference has it.",
        ("pool",),
        _SECONDS,
        advice="Slow: the pool's queue or its GPUs; `turnstream top` shows both.",
    ),
    "turnstream_turn_seconds": Metric("From submission to the terminal event.", ("pool",), _SECONDS),
    "turnstream_persist_seconds": Metric(
        "From the terminal event to its persistence.",
        (),
        _SECONDS,
        advice="How long `[DONE]` waits for the history; slow: Cassandra, Redis or the sink.",
    ),
}

COUNTERS: Final = get_args(Counter)
GAUGES: Final = get_args(Gauge)
HISTOGRAMS: Final = get_args(Histogram)
