"""What an operator sees of a consume loop: whether it has joined the group, turns, and how far it is behind."""

import time
from typing import Final

from turnstream.log.kafka_group_consumer import KafkaGroupConsumer
from turnstream.telemetry.prometheus import PrometheusMetrics
from turnstream.wiring.process import Process

PROGRESS_AGE_S_MAX: Final = 30.0


def require_loop(process: Process, stage: str, consumer: KafkaGroupConsumer) -> None:
    """The process is ready only while this stage's member holds partitions and its loop goes round.

    A loop that waits for a dependency still goes round: readiness tells of a process that is stuck, and a lost
    dependency is told by retries and logs.
    """
    # From the start, or the first of them would be the series' first value and no increase.
    process.metrics.count("turnstream_dead_letters_total", 0, stage=stage)
    process.metrics.count("turnstream_record_retries_total", 0, stage=stage)
    process.metrics.watch("turnstream_lag_records", consumer.lag_records, stage=stage)
    process.metrics.watch("turnstream_lag_seconds", lambda: consumer.lag_seconds(time.time()), stage=stage)
    process.readiness.require(f"{stage}:partitions", lambda: bool(consumer.assignment()))
    process.readiness.require(f"{stage}:progress", lambda: _progress_age_s(process.metrics, stage) < PROGRESS_AGE_S_MAX)


def _progress_age_s(metrics: PrometheusMetrics, stage: str) -> float:
    return time.time() - metrics.gauge_value("turnstream_loop_progress_timestamp_seconds", stage=stage)
