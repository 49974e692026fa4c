"""What the events of a turn mean to its client. Pure."""

from collections.abc import Sequence
from typing import Final, NamedTuple, assert_never

from pydantic import BaseModel, ConfigDict, Field

from schemas.errors import ErrorBody, ErrorType, Refusal, Retryable, server_error, unavailable
from schemas.events import CHAT, Api, FinishReason, RateLimits, Turn, Usage
from schemas.generation import TokenLogprob, ToolCallDelta
from schemas.ids import public_response_id, public_turn_id
from schemas.plain_deltas import PlainDelta
from schemas.ports import Placed, StoredAnswer
from schemas.tokens import AttemptStarted, Cancelled, Cleared, Delta, Failed, Finished, Persisted, Refused, Terminal

_RETRY_AFTER_S: Final = 2


class SseSettings(BaseModel):
    """Limits of the answering side of the edge."""

    model_config = ConfigDict(frozen=True)

    heartbeat_seconds: float = Field(default=10, gt=0, description="Silence after which a comment is sent.")
    head_seconds_max: float = Field(default=30, gt=0, description="For the stages before inference to decide.")
    write_seconds_max: float = Field(default=10, gt=0, description="For a client to take one write.")
    persisted_seconds_max: float = Field(default=30, gt=0, description="For [DONE] to wait until history has the turn.")
    gap_seconds_max: float = Field(default=5, gt=0, description="Silence inside a stream that is counted as a gap.")
    deadline_grace_seconds: float = Field(default=5, ge=0, description="After the turn's deadline, for its terminal.")
    resume_seconds_max: float = Field(default=660, gt=0, description="For a resumed stream to reach the turn's end.")
    abandon_grace_seconds: float = Field(default=30, ge=0, description="Before a stateless turn is cancelled.")
    abandoned_turns_max: int = Field(default=1000, ge=0, description="Beyond it there is no grace.")
    buffer_events_max: int = Field(
        default=2_000, ge=1, description="Events that wait for one client; then the log does."
    )
    buffer_bytes_max: int = Field(default=262_144, ge=1, description="The same in bytes on the log.")
    catch_up_records_max: int = Field(default=5_000, ge=1, description="Read from the log at once, for one client.")
    visited_partitions_max: int = Field(default=64, ge=0, description="Followed at once beside the home partitions.")
    visit_linger_seconds: float = Field(default=15, ge=0, description="Followed for so long after the last reader.")
    clock_skew_ms_max: int = Field(default=5_000, ge=0, description="Between the clocks of two edges.")
    answer_chars_max: int = Field(default=4_000_000, ge=1, description="Of an answer that is not streamed.")
    tick_seconds: float = Field(default=0.1, gt=0, description="Resolution of heartbeats and of the write limit.")
    poll_records_max: int = Field(default=1_000, ge=1)
    poll_wait_seconds: float = Field(default=0.5, gt=0)
    poll_failures_max: int = Field(default=20, ge=1, description="In a row, before the process gives up.")
    poll_retry_seconds: float = Field(default=0.25, gt=0)
    probe_interval_seconds: float = Field(default=2, gt=0)
    ready_seconds_max: float = Field(default=10, gt=0, description="Age of the last probe that came back.")
    reconnect_ms: int = Field(default=500, ge=1, description="`retry:` of resumable streams, plus up to as much again.")
    drain_undisturbed_share: float = Field(default=0.25, ge=0, le=1, description="Of the drain, before streams move.")
    drain_moving_share: float = Field(default=0.5, ge=0, le=1, description="Of the drain, while streams are moved on.")
    system_fingerprint: str = Field(default="fp_turnstream", description="Shown to clients in every completion.")


class StreamBroken(Retryable):
    """A client's view of a turn ends before the turn does; ``refusal`` says so to the client."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.error.code or refusal.error.message)
        self.refusal = refusal


class Identity(NamedTuple):
    """The turn as its clients see it: what all of one answer shares.

    ``api`` is the one in whose terms this client is answered; ``request`` what it shows of the request, as JSON.
    """

    turn_id: str
    created_s: int
    model: str
    system_fingerprint: str
    conversation_id: str | None
    api: Api = CHAT
    request: str | None = None
    choices: int = 1
    answer_seq: int = 0

    @property
    def public_id(self) -> str:
        """The id under which clients of the API know the turn."""
        return public_turn_id(self.turn_id) if self.api == CHAT else public_response_id(self.turn_id)

    @property
    def stored(self) -> bool:
        """Whether the turn will be in a history; a stateless turn shows no conversation."""
        return self.conversation_id is not None


class Piece(NamedTuple):
    """A piece of the answer and its place (``schemas.cursors``)."""

    text: str
    seq: int
    offset: int
    choice: int = 0
    tool_calls: tuple[ToolCallDelta, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()


class Step(NamedTuple):
    """How far a turn has come, in the terms of a client. ``deltas`` counts those up to here."""

    cleared: Cleared | None = None
    started: bool = False
    deltas: int = 0
    terminal: Terminal | None = None
    terminal_offset: int = 0
    persisted: Persisted | None = None


class Ending(NamedTuple):
    """How an answer ends well. ``cancelled`` is the reason when somebody stopped it before its end.

    ``reasons`` are those of all choices, when there are several.
    """

    finish_reason: str
    usage: Usage | None
    cancelled: str | None = None
    reasons: tuple[str, ...] = ()

    def reason_of(self, choice: int) -> str:
        """Why this choice ended."""
        return self.reasons[choice] if choice < len(self.reasons) else self.finish_reason


def identity_of(turn: Turn | Cleared | StoredAnswer, settings: SseSettings, api: Api | None = None) -> Identity:
    """The same identity, from whatever tells of the turn; ``api``: that of the client, if it is not the turn's own."""
    stored = turn.stored if isinstance(turn, Turn | Cleared) else True
    return Identity(
        turn_id=turn.turn_id,
        created_s=turn.submitted_at_ms // 1000,
        model=turn.model,
        system_fingerprint=settings.system_fingerprint,
        conversation_id=turn.conversation_id if stored else None,
        api=api or turn.api,
        request=None if turn.request is None else turn.request.text,
        choices=turn.generation.n if isinstance(turn, Turn) else turn.choices,
        answer_seq=0 if isinstance(turn, Turn) else turn.answer_seq,
    )


def read_step(events: Sequence[Placed], before: Step) -> tuple[Step, list[Piece]]:
    """The step that ``events`` make after ``before``, and the pieces of text that they bring.

    ``events`` are the ones that count (``schemas.stream_state``), in order.
    """
    cleared, started, deltas = before.cleared, before.started, before.deltas
    terminal, terminal_offset, persisted = before.terminal, before.terminal_offset, before.persisted
    pieces: list[Piece] = []
    for event, offset in events:
        match event:
            case PlainDelta(text, seq):
                pieces.append(Piece(text, seq, offset))
                deltas = seq + 1
            case Delta():
                pieces.append(piece_of(event, offset))
                deltas = event.seq + 1
            case Cleared():
                cleared = event
            case Finished() | Failed() | Refused() | Cancelled():
                terminal, terminal_offset = event, offset
            case Persisted():
                persisted = event
            case AttemptStarted():
                started = True
            case _:
                # Probes and attachments are the log's own affair.
                pass
    return Step(cleared, started, deltas, terminal, terminal_offset, persisted), pieces


def piece_of(delta: Delta, offset: int) -> Piece:
    """The piece of text that a record at ``offset`` brings."""
    return Piece(delta.content.text, delta.seq, offset, delta.choice, delta.tool_calls, delta.logprobs)


def ending_of(terminal: Terminal) -> Ending | Refusal:
    """How the answer ends for its client, or the error that it ends with."""
    match terminal:
        case Finished():
            return _finished(terminal)
        case Cancelled():
            return Ending(FinishReason.STOP.value, usage=None, cancelled=terminal.reason)
        case Failed() | Refused():
            return terminal.refusal
        case _:
            assert_never(terminal)


def limits_of(step: Step) -> RateLimits | None:
    """The quota to report in the head, where a stage has counted the turn."""
    if step.cleared is not None:
        return step.cleared.limits
    return step.terminal.limits if isinstance(step.terminal, Refused) else None


def head_timeout() -> Refusal:
    """504: no stage has decided in time; the turn is cancelled, so a retry is a new one."""
    return Refusal(
        status=504,
        error=ErrorBody(
            message="The request was not processed in time.", type=ErrorType.UNAVAILABLE, code="head_timeout"
        ),
        retry_after_s=_RETRY_AFTER_S,
    )


def turn_timeout() -> Refusal:
    """504: the deadline of the turn passed without an end of its answer."""
    return Refusal(
        status=504,
        error=ErrorBody(
            message="The answer was not completed in time.", type=ErrorType.UNAVAILABLE, code="turn_timeout"
        ),
    )


def too_many_visits() -> StreamBroken:
    """503: this edge follows as many foreign partitions as it may."""
    return StreamBroken(unavailable("Too many streams are resumed here. Retry shortly.", "too_many_resumed_streams"))


def not_stored_yet() -> Refusal:
    """503: the answer is complete, but no history is known to have it; the stream can be resumed for its end."""
    return unavailable(
        "The answer is complete but not stored yet. Resume the stream to learn when it is.",
        "answer_not_stored_yet",
        _RETRY_AFTER_S,
    )


def interrupted() -> Refusal:
    """The log cannot be followed from here any more; the answer itself goes on."""
    return unavailable("The stream was interrupted. It can be resumed.", "stream_interrupted")


def draining() -> Refusal:
    """This process is shutting down; the answer itself goes on."""
    return unavailable("This server is shutting down. The stream can be resumed.", "server_shutting_down")


def answer_too_long() -> Refusal:
    """500: the answer exceeds what is held for a client that does not stream."""
    return server_error("The answer is too long to be sent in one piece. Use 'stream'.", "answer_too_long")


def ending_of_stored(stored: StoredAnswer) -> Ending | Refusal:
    """How an answer ended that only the store remembers."""
    match stored.finish_reason:
        case FinishReason.CANCELLED:
            return Ending(FinishReason.STOP.value, usage=None, cancelled="client")
        case FinishReason.FAILED:
            return server_error("The answer could not be completed.", "generation_failed")
        case reason:
            return Ending(reason.value, stored.usage, reasons=tuple(one.value for one in stored.choice_reasons))


def _finished(terminal: Finished) -> Ending | Refusal:
    match terminal.finish_reason:
        case FinishReason.STOP | FinishReason.LENGTH | FinishReason.TOOL_CALLS | FinishReason.CONTENT_FILTER:
            reasons = tuple(reason.value for reason in terminal.choice_reasons)
            return Ending(terminal.finish_reason.value, terminal.usage, reasons=reasons)
        case FinishReason.CANCELLED:
            return Ending(FinishReason.STOP.value, terminal.usage, cancelled="client")
        case FinishReason.FAILED:
            return server_error("The answer could not be completed.", "generation_failed")
        case _:
            assert_never(terminal.finish_reason)
