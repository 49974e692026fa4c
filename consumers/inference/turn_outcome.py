"""What is told of a turn that has ended: its bill and the policy's decision on the log, its figures to operators."""

import structlog

from consumers.inference import core
from consumers.inference.turn_log import TurnLog
from schemas.bills import Billing
from schemas.events import InferenceRequested, ModerationDecided
from schemas.ports import Metrics, Outgoing
from schemas.topics import MODERATION_DECISIONS, USAGE_EVENTS

_log = structlog.get_logger()


def bills(
    log: TurnLog, request: InferenceRequested, blocked: ModerationDecided | None, billing: Billing
) -> tuple[Outgoing, ...]:
    """The records to append after the terminal: usage, if any is due, and ``blocked``."""
    records = []
    usage = core.usage_recorded(request, log.answer, billing)
    if usage is not None:
        records.append(log.record(USAGE_EVENTS, usage.user_id, usage))
    if blocked is not None:
        records.append(log.record(MODERATION_DECISIONS, request.turn.turn_id, blocked))
    return tuple(records)


def report(log: TurnLog, request: InferenceRequested, metrics: Metrics, *, found_ended: bool) -> None:
    """Count and log the turn's end, unless somebody else ended it."""
    pool, turn_id = request.pool, request.turn.turn_id
    usage = core.usage_recorded(request, log.answer, Billing())
    if usage is None or found_ended:
        _log.info("turn_already_ended", turn_id=turn_id, pool=pool)
        return
    metrics.count("turnstream_turns_total", pool=pool, finish_reason=usage.finish_reason.value)
    metrics.count("turnstream_tokens_total", usage.usage.prompt_tokens, pool=pool, kind="prompt")
    metrics.count("turnstream_tokens_total", usage.usage.completion_tokens, pool=pool, kind="completion")
    metrics.observe("turnstream_turn_seconds", usage.duration_ms / 1000, pool=pool)
    if usage.ttft_ms is not None:
        metrics.observe("turnstream_first_token_seconds", usage.ttft_ms / 1000, pool=pool)
    _log.info(
        "turn_ended",
        turn_id=turn_id,
        pool=pool,
        finish_reason=usage.finish_reason.value,
        attempt=usage.attempt,
        completion_tokens=usage.usage.completion_tokens,
    )
