"""How a decision about one turn becomes an outcome of its record, the same in every processor."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from schemas.bills import unused_bill
from schemas.errors import Malformed, Refusal
from schemas.event import Event
from schemas.events import Decision, FinishReason, RateLimits, Turn, TurnAdmitted, TurnPrompted
from schemas.ids import turn_partition
from schemas.ports import Emit, Metrics, Outcome
from schemas.tokens import Refused
from schemas.topics import TOKENS, USAGE_EVENTS, Topic

T = TypeVar("T")


def pass_on(topic: Topic, turn: Turn, event: Event, tenant: str | None = None) -> Emit:
    """The turn's next event, keyed by its conversation so that turns of one conversation stay in order."""
    return Emit(topic=topic, key=turn.conversation_id, event=event, turn_id=turn.turn_id, tenant=tenant)


def answer(turn: Turn, event: Event) -> Emit:
    """An event for whoever follows the turn's answer. Raises Malformed when the turn id has no partition."""
    try:
        partition = turn_partition(turn.turn_id)
    except ValueError:
        raise Malformed("turn.turn_id is not a turn id") from None
    return Emit(topic=TOKENS, key=turn.turn_id, event=event, turn_id=turn.turn_id, partition=partition)


def refuse(turn: Turn, stage: str, refusal: Refusal, limits: RateLimits | None = None) -> Emit:
    """The turn's terminal event: ``stage`` said no. Raises Malformed when the turn id has no partition."""
    return answer(turn, Refused(turn_id=turn.turn_id, stage=stage, refusal=refusal, limits=limits))


def unused(
    event: TurnAdmitted | TurnPrompted,
    reason: FinishReason,
    recorded_at_ms: int,
    *,
    region: str,
    decision: Decision = Decision.ALLOWED,
) -> Emit:
    """The bill of a turn that was admitted and then refused: nothing was used, so its reservation is given back.

    ``recorded_at_ms`` must be the same when the record comes again.
    """
    recorded = unused_bill(
        event.turn,
        event.account,
        model=event.served_model or event.turn.model,
        pool=event.pool,
        reason=reason,
        decision=decision,
        recorded_at_ms=recorded_at_ms,
        region=region,
    )
    return Emit(USAGE_EVENTS, key=event.account.user_id, event=recorded, turn_id=event.turn.turn_id)


def decide_each(items: Iterable[T], decide: Callable[[T], Sequence[Emit]]) -> Sequence[Outcome]:
    """One outcome per item (a record with what was found out about it), in order.

    An item for which ``decide`` raises Malformed has that error as its outcome; the others are not affected.
    """
    outcomes: list[Outcome] = []
    for item in items:
        try:
            outcomes.append(decide(item))
        except Malformed as error:
            outcomes.append(error)
    return outcomes


def count_refusals(metrics: Metrics, outcomes: Sequence[Outcome]) -> None:
    """Count every refusal among ``outcomes`` by stage and code."""
    for outcome in outcomes:
        if isinstance(outcome, Malformed):
            continue
        for emit in outcome:
            if isinstance(emit.event, Refused):
                code = emit.event.refusal.error.code or "none"
                metrics.count("turnstream_refusals_total", stage=emit.event.stage, code=code)
