"""Shadow runs: recorded turns that are run again, with other rules, on topics of their own.

The one place that names these topics: ``replay.<run id>.<name of the live topic>``. They are no part of
``schemas.topics``, because they come and go with their run.
"""

from typing import Final

from pydantic import Field

from schemas.event import Event
from schemas.topics import (
    INFERENCE_REQUESTS,
    LIMITS_LEDGER,
    MAX_RECORD_BYTES,
    MODERATION_DECISIONS,
    TOKENS,
    TURNS_ADMITTED,
    TURNS_AUTHORIZED,
    TURNS_PROMPTED,
    USAGE_EVENTS,
    Cleanup,
    TopicPlan,
)

PREFIX: Final = "replay."
# Few: a run is read as a whole by one process, and every partition costs the broker files.
PARTITIONS: Final = 2
RETENTION_HOURS: Final = 7 * 24
# What the stages write; the source of the first stage is the live topic itself.
WRITTEN: Final = (
    TURNS_AUTHORIZED,
    TURNS_ADMITTED,
    TURNS_PROMPTED,
    *INFERENCE_REQUESTS.values(),
    TOKENS,
    MODERATION_DECISIONS,
    USAGE_EVENTS,
    LIMITS_LEDGER,
)
_MANIFEST: Final = "run"
_WRITTEN_NAMES: Final = frozenset((*(topic.name for topic in WRITTEN), _MANIFEST))


class ShadowBegan(Event):
    """``replay.<run id>.run``: what a run does. Times in Unix milliseconds."""

    run_id: str
    source: tuple[str, ...] = Field(description="The live topics that its records come from.")
    from_stage: str
    until_stage: str
    changes: dict[str, str] = Field(default={}, description="What is other than it was; of texts a hash.")
    began_at_ms: int = Field(ge=0)


def shadow_topic(run_id: str, name: str) -> str:
    """The run's own topic instead of the live topic ``name``. Raises ValueError for one that no stage writes."""
    if name not in _WRITTEN_NAMES:
        raise ValueError(f"a shadow run does not write {name}")
    return f"{PREFIX}{run_id}.{name}"


def manifest_topic(run_id: str) -> str:
    """Where a run says what it is: one partition, one record (``ShadowBegan``), or several of a resumed run."""
    return shadow_topic(run_id, _MANIFEST)


def run_of(topic: str) -> str | None:
    """The run to which ``topic`` belongs; None for a topic of no run."""
    if not topic.startswith(PREFIX):
        return None
    run_id, _, name = topic.removeprefix(PREFIX).partition(".")
    return run_id if run_id and name in _WRITTEN_NAMES else None


def plan_shadow(run_id: str, replication: int) -> tuple[TopicPlan, ...]:
    """The topics that a run needs."""
    config = (
        ("cleanup.policy", Cleanup.DELETE.value),
        ("max.message.bytes", str(MAX_RECORD_BYTES)),
        ("retention.ms", str(RETENTION_HOURS * 3_600_000)),
    )
    written = (TopicPlan(shadow_topic(run_id, topic.name), PARTITIONS, replication, config) for topic in WRITTEN)
    return (TopicPlan(manifest_topic(run_id), 1, replication, config), *written)
