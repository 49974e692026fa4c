"""What the consume loop is given: a stage's name, source, ports and limits."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, Field

from consumers.dispatch import HoldLimits
from consumers.retry import RetryPolicy
from schemas.bills import LOCAL_REGION
from schemas.ports import BatchProcess, GroupConsumer, KeyedProcess, LogSink, Metrics, Producer
from schemas.topics import Topic


class LoopSettings(BaseModel):
    """Limits of one stage's loop."""

    model_config = ConfigDict(frozen=True)

    batch_records_max: int = Field(default=500, ge=1)
    poll_seconds_max: float = Field(default=0.2, gt=0, description="Of one poll; how late a stop may be seen.")
    commit_interval_s: float = Field(
        default=1.0, gt=0, description="Between two commits; a crash repeats at most what came since."
    )
    uncommitted_seconds_max: float = Field(
        default=30.0, gt=0, description="A member that could commit nothing for so long gives its process up."
    )
    retry: RetryPolicy = Field(
        default=RetryPolicy(), description="Of a batch whose dependency is down; afterwards the process stops."
    )


class KeyedSettings(LoopSettings):
    """Limits of a loop that works on many keys at once."""

    hold: HoldLimits = HoldLimits()
    record_retry: RetryPolicy = Field(
        default=RetryPolicy(first_delay_s=0.2),
        description="Of one record whose dependency is down; afterwards it is dead-lettered.",
    )
    drain_seconds_max: float = Field(default=20, ge=0, description="For work in flight when the process stops.")


@dataclass(frozen=True, slots=True)
class Environment:
    """Time, waiting and chance, so that tests decide them."""

    monotonic_s: Callable[[], float] = time.monotonic
    unix_s: Callable[[], float] = time.time
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    jitter: Callable[[], float] = random.random


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What every loop needs; ``consumer`` is a member of the stage's group on ``source`` alone."""

    stage: str
    source: Topic
    consumer: GroupConsumer
    producer: Producer
    metrics: Metrics
    environment: Environment = field(default_factory=Environment)
    region: str = LOCAL_REGION


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchWork(Work):
    """A stateless stage."""

    process: BatchProcess
    settings: LoopSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyedWork(Work):
    """A stage whose work on one record is long."""

    process: KeyedProcess
    settings: KeyedSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkWork(Work):
    """A stage that folds records into the outside world."""

    sink: LogSink
    settings: LoopSettings
