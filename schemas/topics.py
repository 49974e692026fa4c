"""Every topic: its name, key, event, size, retention and who writes and reads it. The one place.

Retention is in hours; ``partitions`` are the defaults of the design, a deployment sets its own
(``TopicPlan``). Topics are created by us alone, before any consumer starts.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from pydantic import TypeAdapter

from schemas import abuse, accounts, events, limits, operations, tokens
from schemas.event import Event

MAX_RECORD_BYTES: Final = 1_000_000
DLQ_SUFFIX: Final = ".dlq"
DLQ_RETENTION_HOURS: Final = 14 * 24
DLQ_PARTITIONS: Final = 1
# Names of the pools for which request topics exist; a pool is a tier of models on its own GPUs.
POOLS: Final = ("fast", "capable")


class Cleanup(StrEnum):
    """Kafka's ``cleanup.policy``."""

    DELETE = "delete"
    COMPACT = "compact"


class Key(StrEnum):
    """What the record key holds; it decides what is ordered with what."""

    CONVERSATION = "conversation_id"
    TURN = "turn_id"
    USER = "user_id"
    SUBJECT = "subject_id"
    ABUSER = "tenant_id|user_id"
    ROLLUP = "tenant_id|user_id|model|window|window_start_ms"


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic of the contract. ``schema`` is also the value of the ``schema`` record header."""

    name: str
    event: type[Event] | TypeAdapter[tokens.TokenEvent]
    key: Key
    partitions: int
    retention_hours: int
    producer: str
    groups: tuple[str, ...]
    summary: str
    cleanup: Cleanup = Cleanup.DELETE
    dead_letters: bool = True

    @property
    def dlq(self) -> str:
        """Name of the dead letter twin."""
        return self.name + DLQ_SUFFIX


TURNS_SUBMITTED: Final = Topic(
    name="chat.turns.submitted.v1",
    event=events.TurnSubmitted,
    key=Key.CONVERSATION,
    partitions=64,
    retention_hours=7 * 24,
    producer="edge",
    groups=("turnstream.auth",),
    summary="A client's request was accepted onto the log.",
)
TURNS_AUTHORIZED: Final = Topic(
    name="chat.turns.authorized.v1",
    event=events.TurnAuthorized,
    key=Key.CONVERSATION,
    partitions=64,
    retention_hours=24,
    producer="auth",
    groups=("turnstream.rate_limit",),
    summary="The account may ask this model in this conversation.",
)
TURNS_ADMITTED: Final = Topic(
    name="chat.turns.admitted.v1",
    event=events.TurnAdmitted,
    key=Key.CONVERSATION,
    partitions=64,
    retention_hours=24,
    producer="rate_limit",
    groups=("turnstream.prompt",),
    summary="The turn is within its account's quota.",
)
TURNS_PROMPTED: Final = Topic(
    name="chat.turns.prompted.v1",
    event=events.TurnPrompted,
    key=Key.CONVERSATION,
    partitions=64,
    retention_hours=24,
    producer="prompt",
    groups=("turnstream.moderation",),
    summary="The prompt is complete: policy, history and input.",
)
TURNS_CANCELLED: Final = Topic(
    name="chat.turns.cancelled.v1",
    event=events.TurnCancelled,
    key=Key.TURN,
    partitions=1,
    retention_hours=1,
    producer="edge",
    groups=(),
    summary="A hint to inference: stop generating. Read by every inference process from its end, without a group.",
    dead_letters=False,
)
TOKENS: Final = Topic(
    name="chat.tokens.v1",
    event=TypeAdapter(tokens.TokenEvent),
    key=Key.TURN,
    partitions=64,
    # Longer than an idempotency claim lives: a retry that joins finds its turn on the log.
    retention_hours=30,
    producer="edge, moderation, inference, cassandra_sink; any stage that refuses",
    groups=("turnstream.cassandra_sink",),
    summary="The answer: clearance or refusal, fences, deltas, one terminal, persisted. Partition: of the turn id.",
)
MODERATION_DECISIONS: Final = Topic(
    name="moderation.decisions.v1",
    event=events.ModerationDecided,
    key=Key.TURN,
    partitions=16,
    retention_hours=30 * 24,
    producer="moderation, inference",
    groups=("turnstream.windows",),
    summary="Every verdict of the policy with its reasons.",
)
USAGE_EVENTS: Final = Topic(
    name="usage.events.v1",
    event=events.UsageRecorded,
    key=Key.USER,
    partitions=16,
    retention_hours=30 * 24,
    producer="inference, prompt, moderation",
    groups=("turnstream.rate_limit_settle", "turnstream.windows", "turnstream.usage_rows", "turnstream.usage_sink"),
    summary="Tokens, times and outcome of each turn; deduplicate by turn_id.",
)
USAGE_ROLLUPS: Final = Topic(
    name="usage.rollups.v1",
    event=events.UsageRolledUp,
    key=Key.ROLLUP,
    partitions=16,
    retention_hours=30 * 24,
    producer="windows",
    groups=(),
    summary="Usage per user, model and minute or hour; the last record of a key wins.",
    cleanup=Cleanup.COMPACT,
    dead_letters=False,
)
LIMITS_LEDGER: Final = Topic(
    name="limits.ledger.v1",
    event=limits.LimitLedgered,
    key=Key.USER,
    partitions=16,
    retention_hours=7 * 24,
    producer="rate_limit, rate_limit_settle",
    groups=(),
    summary="What the limiter did for each turn: reserved, refused, settled or released, with the quotas after it.",
)
ACCOUNT_CHANGES: Final = Topic(
    name="accounts.changes.v1",
    event=accounts.AccountChanged,
    key=Key.SUBJECT,
    partitions=1,
    retention_hours=24,
    producer="edge",
    groups=(),
    summary="A key, a session or a user changed: forget what is cached. Read from its end, without a group.",
    dead_letters=False,
)
ABUSE_SIGNALS: Final = Topic(
    name="abuse.signals.v1",
    event=abuse.AbuseSignalled,
    key=Key.ABUSER,
    partitions=16,
    retention_hours=30 * 24,
    producer="windows, operators",
    groups=(),
    summary="The rung of the ladder on which a user stands. Read from its beginning by every auth process.",
    cleanup=Cleanup.COMPACT,
    dead_letters=False,
)
ABUSE_EVIDENCE: Final = Topic(
    name="abuse.evidence.v1",
    event=abuse.AbuseEvidence,
    key=Key.SUBJECT,
    partitions=16,
    retention_hours=24,
    producer="windows, operators",
    groups=("turnstream.windows",),
    summary="What counts for or against a user, by user or by address. Partitions: as many as usage.events.v1 has.",
)
OPERATIONS_AUDIT: Final = Topic(
    name="operations.audit.v1",
    event=operations.OperatorActed,
    key=Key.SUBJECT,
    partitions=1,
    retention_hours=365 * 24,
    producer="operators",
    groups=(),
    summary="What operators did: to what, why and with which outcome.",
    dead_letters=False,
)


def _inference_requests(pool: str) -> Topic:
    return Topic(
        name=f"inference.requests.{pool}.v1",
        event=events.InferenceRequested,
        key=Key.CONVERSATION,
        partitions=64,
        retention_hours=24,
        producer="moderation",
        groups=(f"turnstream.inference.{pool}",),
        summary=f"Cleared turns for the {pool} pool.",
    )


INFERENCE_REQUESTS: Final = {pool: _inference_requests(pool) for pool in POOLS}

ALL_TOPICS: Final = (
    TURNS_SUBMITTED,
    TURNS_AUTHORIZED,
    TURNS_ADMITTED,
    TURNS_PROMPTED,
    *INFERENCE_REQUESTS.values(),
    TURNS_CANCELLED,
    TOKENS,
    MODERATION_DECISIONS,
    USAGE_EVENTS,
    USAGE_ROLLUPS,
    LIMITS_LEDGER,
    ACCOUNT_CHANGES,
    ABUSE_SIGNALS,
    ABUSE_EVIDENCE,
    OPERATIONS_AUDIT,
)
BY_NAME: Final = {topic.name: topic for topic in ALL_TOPICS}


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """A topic as a deployment creates it: one row of ``turnstream topics``."""

    name: str
    partitions: int
    replication: int
    config: tuple[tuple[str, str], ...]


def plan_topics(partitions: int | None, partitions_tokens: int | None, replication: int) -> tuple[TopicPlan, ...]:
    """What to create. ``None`` keeps the design's partition counts; one-partition topics stay so."""
    plans: list[TopicPlan] = []
    for topic in ALL_TOPICS:
        wanted = partitions_tokens if topic is TOKENS else partitions
        count = topic.partitions if wanted is None or topic.partitions == 1 else wanted
        plans.append(TopicPlan(topic.name, count, replication, _config(topic)))
        if topic.dead_letters:
            plans.append(TopicPlan(topic.dlq, DLQ_PARTITIONS, replication, _dlq_config()))
    return tuple(plans)


def _config(topic: Topic) -> tuple[tuple[str, str], ...]:
    return (
        ("cleanup.policy", topic.cleanup.value),
        ("max.message.bytes", str(MAX_RECORD_BYTES)),
        ("retention.ms", _hours_ms(topic.retention_hours)),
    )


def _dlq_config() -> tuple[tuple[str, str], ...]:
    # A dead letter is the record it was plus headers: leave room for both.
    return (
        ("cleanup.policy", Cleanup.DELETE.value),
        ("max.message.bytes", str(MAX_RECORD_BYTES + 16_384)),
        ("retention.ms", _hours_ms(DLQ_RETENTION_HOURS)),
    )


def _hours_ms(hours: int) -> str:
    return str(hours * 3_600_000)
