"""What an owner of a turn decides: pure functions over what the log says of the turn. No I/O, clock or random.

The protocol is DESIGN.md's "fence by log position": an owner appends a fence, reads the turn back up to that fence,
continues what was accepted, and is the one writer until somebody fences higher. All readers fold the records
with ``schemas.stream_state.advance``; so does this stage, and so it knows what its own appends mean.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from schemas import errors
from schemas.content import Content
from schemas.errors import ErrorBody, ErrorType, Malformed, Refusal
from schemas.events import FinishReason, InferenceRequested, ModerationDecided, Prompt, Usage, UsageRecorded
from schemas.ports import Generated, Verdict
from schemas.stream_state import INITIAL, StreamState, advance
from schemas.tokens import AttemptStarted, Cancelled, Delta, Failed, Finished, Refused, TokenEvent

_FINISH_REASONS: Final = {"length": FinishReason.LENGTH, "content_filter": FinishReason.CONTENT_FILTER}


class PrefixUnsupported(Malformed):
    """The backend cannot continue an answer that has already begun."""


class InferenceSettings(BaseModel):
    """Limits of the inference stage, the same for every pool."""

    model_config = ConfigDict(frozen=True)

    turns_in_flight_max: int = Field(default=256, ge=1, description="Turns generating at once in one process.")
    fences_per_claim_max: int = Field(default=6, ge=1, description="Fences appended until one holds.")
    generations_per_turn_max: int = Field(
        default=64, ge=1, description="Requests to the backend in one run of a turn, however well it goes on between."
    )
    outage_ms_max: int = Field(
        default=20_000, ge=0, description="Generations may fail for so long without a new token; then the turn does."
    )
    backoff_ms_min: int = Field(default=100, ge=1, description="First pause after the backend failed.")
    backoff_ms_max: int = Field(default=2_000, ge=1, description="Longest pause after the backend failed.")
    delta_chars_max: int = Field(default=8_192, ge=1, description="Text of one delta; more is cut into several.")
    buffered_chars_max: int = Field(default=32_768, ge=1, description="Text generated ahead of the log, per turn.")
    coalesce_ms_max: int = Field(default=40, ge=0, description="Pause between appends of a turn at full load.")
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


# --- what the log says ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    """A turn as the log has it: its state, the accepted text, and when it began and ended (Unix ms)."""

    state: StreamState = INITIAL
    text: str = ""
    tokens: int = 0
    first_token_at_ms: int | None = None
    ended_at_ms: int | None = None

    @property
    def ended(self) -> bool:
        """Whether a terminal counted."""
        return self.state.terminal is not None


def fold(answer: Answer, event: TokenEvent, at_ms: int) -> Answer:
    """The answer after ``event``, recorded at ``at_ms``. The same object if the event does not count."""
    state = advance(answer.state, event)
    if state is answer.state:
        return answer
    if isinstance(event, Delta):
        first = at_ms if answer.first_token_at_ms is None else answer.first_token_at_ms
        text = answer.text + event.content.text
        return replace(answer, state=state, text=text, tokens=answer.tokens + event.tokens, first_token_at_ms=first)
    ended = at_ms if state.terminal is not None and answer.state.terminal is None else answer.ended_at_ms
    return replace(answer, state=state, ended_at_ms=ended)


def next_attempt(answer: Answer, tried: int) -> int:
    """The attempt to fence with: above every attempt that the log shows, and above those tried in this run."""
    return max(answer.state.attempt, tried) + 1


def looks_fresh(request: InferenceRequested, now_ms: int, settings: InferenceSettings) -> bool:
    """Whether the turn is so young that nobody can have begun and lost it: then prefill overlaps the fence."""
    return now_ms - request.turn.submitted_at_ms <= settings.overlap_age_ms_max


# --- what to append --------------------------------------------------------------------------------------


def fence(turn_id: str, attempt: int, owner: str) -> AttemptStarted:
    """The record that makes ``owner`` the one writer, if no higher attempt is there."""
    return AttemptStarted(turn_id=turn_id, attempt=attempt, owner=owner)


def delta(answer: Answer, turn_id: str, text: str, tokens: int) -> Delta:
    """The next piece of an answer that the caller owns."""
    state = answer.state
    return Delta(
        turn_id=turn_id,
        attempt=state.attempt,
        owner=state.owner or "",
        seq=state.next_seq,
        content=Content(text),
        tokens=tokens,
    )


def finished(answer: Answer, turn_id: str, reason: FinishReason, usage: Usage) -> Finished:
    """The terminal of a complete answer that the caller owns."""
    state = answer.state
    return Finished(
        turn_id=turn_id,
        attempt=state.attempt,
        owner=state.owner or "",
        seq=state.next_seq,
        finish_reason=reason,
        usage=usage,
    )


def failed(answer: Answer, turn_id: str, refusal: Refusal) -> Failed:
    """The terminal of a turn that the caller owns and gives up."""
    return Failed(turn_id=turn_id, attempt=answer.state.attempt, owner=answer.state.owner, refusal=refusal)


def unsent(answer: Answer, text: str, tokens: int, chars_max: int) -> tuple[str, int]:
    """The next piece of ``text`` (the whole answer so far, which begins with the accepted text) and its tokens.

    Merging is by backpressure: whatever came in while the last append was in flight is one piece, up to ``chars_max``.
    """
    start = len(answer.text)
    return text[start : start + chars_max], max(0, tokens - answer.tokens)


def pause_ms(in_flight: int, settings: InferenceSettings) -> float:
    """Shortest time between two appends of one turn: nothing when idle, ``coalesce_ms_max`` at full load."""
    return settings.coalesce_ms_max * min(1.0, in_flight / settings.turns_in_flight_max)


def with_budget(request: InferenceRequested, answer: Answer) -> InferenceRequested | None:
    """The request with the tokens that are left after ``answer``; None when there are none."""
    left = request.prompt.max_tokens - answer.tokens
    if left < 1:
        return None
    return request.model_copy(update={"prompt": request.prompt.model_copy(update={"max_tokens": left})})


def policy_window(answer: Answer, text: str, settings: InferenceSettings) -> str:
    """What moderation judges before ``text`` is appended: it, with the tail of the answer before it."""
    return answer.text[-settings.policy_window_chars_max :] + text


# --- how it ends -----------------------------------------------------------------------------------------


def finish_reason(reported: str | None) -> FinishReason:
    """The engine's own words, in ours; a reason that we do not know is a normal stop."""
    return _FINISH_REASONS.get(reported or "", FinishReason.STOP)


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


def usage_recorded(request: InferenceRequested, answer: Answer) -> UsageRecorded | None:
    """The bill of an ended turn, from the log alone, so that a redelivery bills the same; None if refused before."""
    outcome = _outcome(request, answer)
    if outcome is None or answer.ended_at_ms is None:
        return None
    reason, usage = outcome
    turn, account = request.turn, request.account
    first = answer.first_token_at_ms
    return UsageRecorded(
        turn_id=turn.turn_id,
        conversation_id=turn.conversation_id,
        tenant_id=account.tenant_id,
        user_id=account.user_id,
        key_id=account.key_id,
        plan=account.plan,
        model=request.served_model or turn.model,
        pool=request.pool,
        usage=usage,
        finish_reason=reason,
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


# --- failures --------------------------------------------------------------------------------------------


def deadline_exceeded() -> Refusal:
    """504: nobody waits for this answer any more."""
    body = ErrorBody(message="The answer was not complete in time.", type=ErrorType.SERVER, code="deadline_exceeded")
    return Refusal(status=504, error=body)


def upstream_unavailable() -> Refusal:
    """503: the backend could not be reached within the allowed tries."""
    return errors.unavailable("The model is not available at the moment.", code="upstream_unavailable", retry_after_s=5)


def rejected(cause: Malformed) -> Refusal:
    """502: the backend will never answer this request. The cause is not told: it may quote the prompt."""
    if isinstance(cause, PrefixUnsupported):
        message, code = "The model cannot continue an interrupted answer.", "continuation_unsupported"
    else:
        message, code = "The model rejected the request.", "upstream_rejected"
    return Refusal(status=502, error=ErrorBody(message=message, type=ErrorType.SERVER, code=code))
