"""What is told of a turn that has ended: its bill and the policy's decision on the log, its figures to operators."""

import structlog

from consumers.inference.turn_log import TurnLog
from schemas.events import ModerationDecided, UsageRecorded
from schemas.ports import Metrics, Outgoing
from schemas.topics import MODERATION_DECISIONS, USAGE_EVENTS

_log = structlog.get_logger()


def bills(
    log: TurnLog, usage: UsageRecorded | None, turn_id: str, blocked: ModerationDecided | None
) -> tuple[Outgoing, ...]:
    """The records to append after the terminal: ``usage``, if any is due, and ``blocked``."""
    records = []
    if usage is not None:
        records.append(log.record(USAGE_EVENTS, usage.user_id, usage))
    if blocked is not None:
        records.append(log.record(MODERATION_DECISIONS, turn_id, blocked))
    return tuple(records)


def report(usage: UsageRecorded, pool: str, metrics: Metrics) -> None:
    """Count and log the end of the turn that ``usage`` bills."""
    metrics.count("turnstream_turns_total", pool=pool, finish_reason=usage.finish_reason.value)
    metrics.count("turnstream_tokens_total", usage.usage.prompt_tokens, pool=pool, kind="prompt")
    metrics.count("turnstream_tokens_total", usage.usage.completion_tokens, pool=pool, kind="completion")
    metrics.observe("turnstream_turn_seconds", usage.duration_ms / 1000, pool=pool)
    if usage.ttft_ms is not None:
        metrics.observe("turnstream_first_token_seconds", usage.ttft_ms / 1000, pool=pool)
    _log.info(
        "turn_ended",
        turn_id=usage.turn_id,
        pool=pool,
        finish_reason=usage.finish_reason.value,
        attempt=usage.attempt,
        completion_tokens=usage.usage.completion_tokens,
    )


def report_ended_before(turn_id: str, pool: str) -> None:
    """Log that somebody else had ended the turn."""
    _log.info("turn_already_ended", turn_id=turn_id, pool=pool)
