"""Who stands on the ladder, and why, as the log has it; and how an operator lets a user down."""

from collections.abc import Mapping, Sequence
from typing import Final

from schemas import headers, serde
from schemas.abuse import AbuseEvidence, AbuseLevel, AbuseSignalled
from schemas.errors import Malformed
from schemas.ports import LogReader, Outgoing, Producer, TopicPartition
from schemas.serde import event_headers
from schemas.topics import ABUSE_EVIDENCE, ABUSE_SIGNALS
from stream_processors.windows.core import joined
from turnstream.log.abuse_signals import OFFSETS_PER_READ_MAX, read_signals, signal_partitions
from turnstream.log.partitioning import partition_of_key

EVIDENCE_SHOWN_MAX: Final = 20
EVIDENCE_MS: Final = 24 * 3_600_000

User = tuple[str, str]


async def newest_signals(reader: LogReader, partitions: int) -> Mapping[User, AbuseSignalled]:
    """The newest signal of each user, by tenant and user id. Raises Retryable."""
    ends = await reader.end_offsets(signal_partitions(partitions))
    return {(signal.tenant_id, signal.user_id): signal async for signal in read_signals(reader, ends)}


def standing_at(signal: AbuseSignalled, now_ms: int) -> AbuseLevel:
    """The level that a signal still means at ``now_ms``."""
    return signal.level if (signal.until_ms or 0) > now_ms else AbuseLevel.NONE


async def evidence_of(reader: LogReader, partitions: int, user: User, now_ms: int) -> Sequence[AbuseEvidence]:
    """The newest evidence about a user of the last day, oldest first, at most ``EVIDENCE_SHOWN_MAX``.

    Turns are counted where usage is read: a burst leaves no evidence of its own. Raises Retryable.
    """
    tenant_id, user_id = user
    place = TopicPartition(ABUSE_EVIDENCE.name, partition_of_key(user_id.encode(), partitions))
    starts = await reader.offsets_at((place,), now_ms - EVIDENCE_MS)
    ends = await reader.end_offsets((place,))
    found: list[AbuseEvidence] = []
    for start in range(starts[place], ends[place], OFFSETS_PER_READ_MAX):
        for record in await reader.read_range(place, start, min(ends[place], start + OFFSETS_PER_READ_MAX)):
            if record.key != user_id.encode() or headers.is_replayed(record.headers):
                continue
            try:
                evidence: AbuseEvidence = serde.decode(ABUSE_EVIDENCE, record.value)
            except Malformed:
                continue
            if evidence.tenant_id == tenant_id and evidence.kind != "key_seen":
                found = [*found, evidence][-EVIDENCE_SHOWN_MAX:]
    return found


async def lift(producer: Producer, user: User, now_ms: int) -> None:
    """Let a user down from the ladder, for what happened until now.

    The signal works at once, the evidence makes the windows forget what they counted. Raises OutcomeUnknown.
    """
    tenant_id, user_id = user
    signal = AbuseSignalled(tenant_id=tenant_id, user_id=user_id, level=AbuseLevel.NONE, signalled_at_ms=now_ms)
    lifted = AbuseEvidence(kind="lifted", tenant_id=tenant_id, user_id=user_id, seen_at_ms=now_ms)
    # First what the windows must know: they would give the same signal again.
    await producer.append(
        [
            Outgoing(
                ABUSE_EVIDENCE.name,
                lifted.subject_id.encode(),
                serde.encode(lifted),
                event_headers(ABUSE_EVIDENCE, None, None),
            )
        ]
    )
    await producer.append(
        [
            Outgoing(
                ABUSE_SIGNALS.name,
                joined(tenant_id, user_id).encode(),
                serde.encode(signal),
                event_headers(ABUSE_SIGNALS, None, None),
            )
        ]
    )
