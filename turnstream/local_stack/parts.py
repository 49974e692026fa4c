"""What the supervisor runs, as data: it knows nothing of Kafka, Cassandra or our own processes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

Probe = Callable[[], Awaitable[None]]
"""Returns when the part serves; raises `turnstream.local_stack.readiness.NotReadyError` when it does not yet."""


@dataclass(frozen=True, slots=True)
class OneShot:
    """A command that runs once to its end before something starts, within `finish_s_max` seconds."""

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    finish_s_max: float = 60.0


@dataclass(frozen=True, slots=True)
class Part:
    """A supervised child process.

    `environment` is laid over ours. It has to pass `probe` within `ready_s_max` seconds of its start, and to end
    within `stop_s_max` seconds of SIGTERM before its whole process group gets SIGKILL. `after_clean_exit` is called
    when it did.
    """

    name: str
    argv: tuple[str, ...]
    probe: Probe
    port: int
    environment: Mapping[str, str] = field(default_factory=dict)
    prepare: OneShot | None = None
    ready_s_max: float = 60.0
    stop_s_max: float = 10.0
    after_clean_exit: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything here starts at once, when the stage before is ready; `before` runs to its end first."""

    parts: tuple[Part, ...]
    before: tuple[OneShot, ...] = ()


class PartState(StrEnum):
    """Where a part is in its life."""

    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    UNREADY = "unready"
    BACKOFF = "backoff"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class PartStatus:
    """What is known of one part: `since` is the wall clock (seconds) of its last start, `detail` one line or empty."""

    name: str
    port: int
    state: PartState = PartState.WAITING
    pid: int | None = None
    pid_created: float | None = None
    restarts: int = 0
    since: float | None = None
    detail: str = ""
