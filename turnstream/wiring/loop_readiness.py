"""Readiness of a consume loop: its member has joined the group, and the loop turns."""

import time
from typing import Final

from schemas.ports import GroupConsumer
from turnstream.telemetry.prometheus import PrometheusMetrics
from turnstream.wiring.process import Process

PROGRESS_AGE_S_MAX: Final = 30.0


def require_loop(process: Process, stage: str, consumer: GroupConsumer) -> None:
    """The process is ready only while this stage's member holds partitions and its loop goes round.

    A loop that waits for a dependency still goes round: readiness tells of a process that is stuck, and a lost
    dependency is told by retries and logs.
    """
    process.readiness.require(f"{stage}:partitions", lambda: bool(consumer.assignment()))
    process.readiness.require(f"{stage}:progress", lambda: _progress_age_s(process.metrics, stage) < PROGRESS_AGE_S_MAX)


def _progress_age_s(metrics: PrometheusMetrics, stage: str) -> float:
    return time.time() - metrics.gauge_value("turnstream_loop_progress_timestamp_seconds", stage=stage)
