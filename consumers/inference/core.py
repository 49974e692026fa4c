"""What an owner of a turn decides: pure functions over what the log says of the turn. No I/O, clock or random.

The protocol is DESIGN.md's "fence by log position": an owner appends a fence, reads the turn back up to that fence,
continues what was accepted, and is the one writer until somebody fences higher. All readers fold the records
with ``schemas.stream_state.advance``; so does this stage, and so it knows what its own appends mean.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from consumers.inference.answer import Answer, Choice, answered_by
from consumers.inference.pieces import Piece
from schemas.bills import Billing, cost_nano_usd
from schemas.content import Content
from schemas.errors import Refusal
from schemas.events import (
    Decision,
    FinishReason,
    InferenceRequested,
    ModerationDecided,
    Prompt,
    Route,
    Usage,
    UsageRecorded,
)
from schemas.ports import Generated, Verdict
from schemas.stream_state import StreamState
from schemas.tokens import AttemptStarted, Cancelled, Delta, Failed, Finished, Refused
from schemas.topics import POOLS

_FINISH_REASONS: Final = {
    "length": FinishReason.LENGTH,
    "content_filter": FinishReason.CONTENT_FILTER,
    "tool_calls": FinishReason.TOOL_CALLS,
}
_BEAT_HALVINGS_MAX: Final = 3


class InferenceSettings(BaseModel):
    """Limits of the inference stage, the same for every pool."""

    model_config = ConfigDict(frozen=True)

    fences_per_claim_max: int = Field(default=6, ge=1, description="Fences appended until one holds.")
    generations_per_turn_max: int = Field(
        default=64, ge=1, description="Requests to the backend in one run of a turn, however well it goes on between."
    )
    outage_ms_max: int = Field(
        default=20_000, ge=0, description="Generations may fail for so long without a new token; then the turn does."
    )
    fallback_ms_max: int = Field(
        default=2_000, ge=0, description="The same, while nothing was answered and another pool may answer instead."
    )
    breaker_failures: int = Field(
        default=5, ge=1, description="Generations of a pool that fail in a row until its turns go to their fallbacks."
    )
    breaker_open_ms: int = Field(
        default=5_000, ge=1, description="So long they go there at once; then one turn tries the pool again."
    )
    backoff_ms_min: int = Field(default=100, ge=1, description="First pause after the backend failed.")
    backoff_ms_max: int = Field(default=2_000, ge=1, description="Longest pause after the backend failed.")
    delta_chars_max: int = Field(default=8_192, ge=1, description="Text of one delta; more is cut into several.")
    buffered_chars_max: int = Field(default=32_768, ge=1, description="Text generated ahead of the log, per turn.")
    beat_ms_max: int = Field(default=40, ge=0, description="Between two appends of a turn in a process with many.")
    beat_turns: int = Field(default=32, ge=1, description="So many turns at once are many; fewer have a shorter beat.")
    policy_window_chars_max: int = Field(default=256, ge=1, description="Tail of the answer that moderation judges.")
    readback_records_max: int = Field(default=5_000, ge=1, description="Records read back in one call.")
    lookback_ms_max: int = Field(
        default=60_000, ge=0, description="Clock skew allowed when seeking a turn by its time."
    )
    overlap_age_ms_max: int = Field(default=5_000, ge=0, description="Younger turns start while they are fenced.")
    unverified_ms_max: int = Field(
        default=4_000,
        ge=1,
        description="Own silence after which an owner looks whether it was replaced; less than a group session.",
    )
    stand_back_ms: int = Field(
        default=2_000, ge=0, description="A replaced owner leaves the turn alone for so long; then it looks again."
    )
    stand_backs_max: int = Field(default=150, ge=1, description="Such looks, while the other owner makes progress.")


def looks_fresh(request: InferenceRequested, now_ms: int, settings: InferenceSettings) -> bool:
    """Whether the turn is so young that nobody can have begun and lost it: then prefill overlaps the fence."""
    return now_ms - request.turn.submitted_at_ms <= settings.overlap_age_ms_max


# --- what to append --------------------------------------------------------------------------------------


def fence(turn_id: str, attempt: int, owner: str, route: Route) -> AttemptStarted:
    """The record that makes ``owner`` the one writer, if no higher attempt is there."""
    return AttemptStarted(turn_id=turn_id, attempt=attempt, owner=owner, route=route)


def deltas(answer: Answer, turn_id: str, pieces: Sequence[Piece]) -> tuple[Delta, ...]:
    """The next deltas of an answer that the caller owns."""
    state = answer.state
    return tuple(delta(state, turn_id, seq, piece) for seq, piece in enumerate(pieces, start=state.next_seq))


def delta(state: StreamState, turn_id: str, seq: int, piece: Piece) -> Delta:
    """The delta that says ``piece``."""
    return Delta(
        turn_id=turn_id,
        attempt=state.attempt,
        owner=state.owner or "",
        seq=seq,
        content=Content(piece.text),
        tokens=piece.tokens,
        choice=piece.choice,
        tool_calls=piece.calls,
        logprobs=piece.logprobs,
    )


def finished(
    answer: Answer, turn_id: str, reasons: Sequence[FinishReason], usage: Usage, *, deltas: int = 0
) -> Finished:
    """The terminal of an answer that the caller owns and that is complete after so many more ``deltas``.

    ``reasons`` has one for each choice.
    """
    state = answer.state
    return Finished(
        turn_id=turn_id,
        attempt=state.attempt,
        owner=state.owner or "",
        seq=state.next_seq + deltas,
        finish_reason=reasons[0],
        choice_reasons=tuple(reasons) if len(reasons) > 1 else (),
        usage=usage,
    )


def failed(answer: Answer, turn_id: str, refusal: Refusal) -> Failed:
    """The terminal of a turn that the caller owns and gives up."""
    return Failed(turn_id=turn_id, attempt=answer.state.attempt, owner=answer.state.owner, refusal=refusal)


def beat_ms(in_flight: int, settings: InferenceSettings) -> float:
    """Time between two appends of one turn when ``in_flight`` turns are answered at once; 0 for at once.

    ``beat_ms_max`` is halved for as long as there are fewer turns than that share of ``beat_turns``, down to nothing
    for an eighth: a beat is then a multiple of every shorter one, and turns fall into step when their number changes.
    """
    for halvings in range(_BEAT_HALVINGS_MAX + 1):
        if in_flight << halvings >= settings.beat_turns:
            return settings.beat_ms_max / (1 << halvings)
    return 0.0


def with_budget(request: InferenceRequested, answer: Answer) -> InferenceRequested | None:
    """The request with the tokens that are left after ``answer``; None when there are none."""
    if not answer.tokens:
        return request
    left = request.prompt.max_tokens - answer.tokens
    if left < 1:
        return None
    return request.model_copy(update={"prompt": request.prompt.model_copy(update={"max_tokens": left})})


# --- how it ends -----------------------------------------------------------------------------------------


def finish_reason(reported: str | None, *, calls: bool = False) -> FinishReason:
    """The engine's own words, in ours; a reason that we do not know is a normal stop.

    Engines differ in what they say after a tool call that they were told to make; clients wait for the one reason.
    """
    reason = _FINISH_REASONS.get(reported or "", FinishReason.STOP)
    return FinishReason.TOOL_CALLS if calls and reason is FinishReason.STOP else reason


def finish_reasons(reported: Mapping[int, str], choices: Sequence[Choice], count: int) -> tuple[FinishReason, ...]:
    """Why each of ``count`` choices ended."""
    made_calls = [index < len(choices) and bool(choices[index].calls) for index in range(count)]
    return tuple(finish_reason(reported.get(index), calls=calls) for index, calls in enumerate(made_calls))


def next_route(request: InferenceRequested) -> Route | None:
    """Who answers instead if the pool cannot begin: the next of the request's fallbacks; None when there is none."""
    return next((route for route in request.fallbacks if route.pool in POOLS), None)


def handed_over(request: InferenceRequested, to: Route) -> InferenceRequested:
    """The request as ``to``, one of its fallbacks, gets it."""
    rest = request.fallbacks[request.fallbacks.index(to) + 1 :]
    return request.model_copy(update={"pool": to.pool, "served_model": to.model, "fallbacks": rest})


def measure(prompt: Prompt, tokens_before: int, produced: Sequence[Generated], tokens: int) -> Usage:
    """Usage of an answer: the engine's own totals where it reports them, else what was counted.

    ``tokens_before`` were accepted before this generation began; the engine then sees them as prompt, so its
    prompt count does not hold. ``produced`` is what the engine said last, ``tokens`` all that was counted.
    """
    report = produced[-1] if produced else Generated(text="", tokens=0)
    prompt_tokens = prompt.prompt_tokens
    if tokens_before == 0 and report.prompt_tokens is not None:
        prompt_tokens = report.prompt_tokens
    completion = tokens if report.completion_tokens is None else tokens_before + report.completion_tokens
    return Usage(prompt_tokens=prompt_tokens, completion_tokens=completion, cached_tokens=report.cached_tokens or 0)


def usage_recorded(request: InferenceRequested, answer: Answer, billing: Billing) -> UsageRecorded | None:
    """The bill of an ended turn, from the log alone, so that a redelivery bills the same; None if refused before."""
    outcome = _outcome(request, answer)
    if outcome is None or answer.ended_at_ms is None:
        return None
    reason, usage = outcome
    turn, account, route = request.turn, request.account, answered_by(request, answer)
    first = answer.first_token_at_ms
    return UsageRecorded(
        turn_id=turn.turn_id,
        conversation_id=turn.conversation_id,
        tenant_id=account.tenant_id,
        user_id=account.user_id,
        key_id=account.key_id,
        plan=account.plan,
        model=route.model,
        pool=route.pool,
        usage=usage,
        finish_reason=reason,
        decision=Decision.BLOCKED_OUTPUT if reason is FinishReason.CONTENT_FILTER else Decision.ALLOWED,
        cost_nano_usd=cost_nano_usd(usage, billing.price_of(route.model)),
        region=billing.region,
        origin=turn.origin,
        attempt=answer.state.attempt,
        ttft_ms=None if first is None else max(0, first - turn.submitted_at_ms),
        duration_ms=max(0, answer.ended_at_ms - turn.submitted_at_ms),
        submitted_at_ms=turn.submitted_at_ms,
        recorded_at_ms=answer.ended_at_ms,
    )


def _outcome(request: InferenceRequested, answer: Answer) -> tuple[FinishReason, Usage] | None:
    match answer.state.terminal:
        case Finished(finish_reason=reason, usage=usage):
            return reason, usage
        case Cancelled():
            return FinishReason.CANCELLED, _accepted_usage(request, answer)
        case Failed():
            return FinishReason.FAILED, _accepted_usage(request, answer)
        case Refused() | None:
            return None


def _accepted_usage(request: InferenceRequested, answer: Answer) -> Usage:
    # Nothing delivered, nothing billed; otherwise what the client can read.
    prompt_tokens = request.prompt.prompt_tokens if answer.tokens else 0
    return Usage(prompt_tokens=prompt_tokens, completion_tokens=answer.tokens)


def output_blocked(request: InferenceRequested, verdict: Verdict, policy: str, at_ms: int) -> ModerationDecided:
    """The decision to publish when the policy stops an answer."""
    return ModerationDecided(
        turn_id=request.turn.turn_id,
        conversation_id=request.turn.conversation_id,
        tenant_id=request.account.tenant_id,
        user_id=request.account.user_id,
        decision=verdict.decision,
        categories=verdict.categories,
        rules=verdict.rules,
        policy_version=policy,
        decided_at_ms=at_ms,
    )
