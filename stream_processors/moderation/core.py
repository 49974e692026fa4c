"""What moderation's verdict means for a turn. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from schemas.bills import LOCAL_REGION
from schemas.errors import Malformed, Refusal, invalid_request
from schemas.events import (
    Decision,
    FinishReason,
    InferenceRequested,
    ModerationDecided,
    TurnPrompted,
    Usage,
)
from schemas.messages import Message
from schemas.ports import Emit, Verdict
from schemas.tokens import AttemptStarted, Cleared, Finished
from schemas.topics import INFERENCE_REQUESTS, MODERATION_DECISIONS
from stream_processors.moderation.ruleset import Action, DenyRule
from stream_processors.outcomes import answer, pass_on, refuse, unused
from stream_processors.topology import MODERATION

TRACEPARENT_PARTS: Final = 4
NO_USAGE: Final = Usage(prompt_tokens=0, completion_tokens=0)


class ModerationSettings(BaseModel):
    """Settings of the moderation stage and of the output policy."""

    model_config = ConfigDict(frozen=True)

    default_rules: bool = Field(default=True, description="Use the rules that ship with the package.")
    rules_files: tuple[Path, ...] = Field(default=(), description="Further rules, in the same TOML format.")
    deny: tuple[DenyRule, ...] = Field(default=(), description="Further denied terms.")
    actions: Mapping[str, Action] = Field(default={}, description="Category -> flag or block, over the rules' own.")


def own_messages(event: TurnPrompted) -> tuple[Message, ...]:
    """The turn's own input; the history before it was judged when it was new."""
    return event.prompt.messages[-event.prompt.input_count :]


def own_texts(event: TurnPrompted) -> Iterator[str]:
    """What the client wrote for this turn: its instructions, and contents, names and calls of its own messages."""
    if event.turn.instructions is not None:
        yield event.turn.instructions.text
    for message in own_messages(event):
        yield message.content.text
        if message.name is not None:
            yield message.name
        for call in message.tool_calls:
            yield call.arguments.text


def decide(
    event: TurnPrompted,
    verdict: Verdict,
    *,
    policy_version: str,
    decided_at_ms: int,
    received_at_ms: int,
    traceparent: str | None,
    region: str = LOCAL_REGION,
) -> Sequence[Emit]:
    """The events that carry out ``verdict``.

    A cleared turn is ``Cleared`` first: whoever sees its tokens has seen that they are coming. Raises Malformed
    for a turn id without a partition or a pool without a topic.
    """
    decided = ModerationDecided(
        turn_id=event.turn.turn_id,
        conversation_id=event.turn.conversation_id,
        tenant_id=event.account.tenant_id,
        user_id=event.account.user_id,
        decision=verdict.decision,
        categories=verdict.categories,
        rules=verdict.rules,
        policy_version=policy_version,
        trace_id=trace_id(traceparent),
        decided_at_ms=decided_at_ms,
    )
    record = Emit(MODERATION_DECISIONS, key=event.turn.turn_id, event=decided, turn_id=event.turn.turn_id)
    if verdict.decision is not Decision.ALLOWED:
        reason = FinishReason.CONTENT_FILTER
        bill = unused(event, reason, received_at_ms, region=region, decision=verdict.decision)
        return (refuse(event.turn, MODERATION.name, content_policy_violation(), event.limits), record, bill)
    if not event.turn.wants_answer:
        said = (cleared(event), *nothing_said(event))
        bill = unused(event, FinishReason.STOP, received_at_ms, region=region)
        return (*(answer(event.turn, each) for each in said), record, bill)
    return (answer(event.turn, cleared(event)), _request(event), record)


def cleared(event: TurnPrompted) -> Cleared:
    """The news for the edge and the sink. Messages that nobody will store stay out of it."""
    stored_here = event.turn.stored and event.turn.answers_seq is None
    return Cleared(
        turn_id=event.turn.turn_id,
        conversation_id=event.turn.conversation_id,
        tenant_id=event.account.tenant_id,
        user_id=event.account.user_id,
        model=event.served_model or event.turn.model,
        stored=event.turn.stored,
        message_seq=event.message_seq,
        submitted_at_ms=event.turn.submitted_at_ms,
        limits=event.limits,
        input=own_messages(event) if stored_here else (),
        api=event.turn.api,
        request=event.turn.request,
        parent_seq=event.parent_seq,
        wants_answer=event.turn.wants_answer,
        answers_seq=event.turn.answers_seq,
        choices=event.turn.generation.n,
    )


def nothing_said(event: TurnPrompted) -> tuple[AttemptStarted, Finished]:
    """The end of a turn that wants no answer: moderation is the owner that has nothing to say."""
    turn_id, owner = event.turn.turn_id, MODERATION.name
    return (
        AttemptStarted(turn_id=turn_id, attempt=1, owner=owner),
        Finished(turn_id=turn_id, attempt=1, owner=owner, seq=0, finish_reason=FinishReason.STOP, usage=NO_USAGE),
    )


def content_policy_violation() -> Refusal:
    """400: the input breaks the policy; by which rule is in the decision, not in the answer."""
    return invalid_request(
        "Your request was refused because it violates the content policy.",
        param="messages",
        code="content_policy_violation",
    )


def trace_id(traceparent: str | None) -> str | None:
    """The trace id in a W3C ``traceparent`` header, or None when there is none."""
    parts = traceparent.split("-") if traceparent else []
    return parts[1] if len(parts) >= TRACEPARENT_PARTS else None


def _request(event: TurnPrompted) -> Emit:
    topic = INFERENCE_REQUESTS.get(event.pool)
    if topic is None:
        raise Malformed("pool: no such pool")
    requested = InferenceRequested(
        turn=event.turn,
        account=event.account,
        pool=event.pool,
        served_model=event.served_model,
        fallbacks=event.fallbacks,
        message_seq=event.message_seq,
        prompt=event.prompt,
    )
    return pass_on(topic, event.turn, requested, tenant=event.account.tenant_id)
