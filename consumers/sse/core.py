"""What the events of a turn mean to its client. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, assert_never

from pydantic import BaseModel, ConfigDict, Field

from schemas.errors import ErrorBody, ErrorType, Refusal, Retryable, server_error, unavailable
from schemas.events import FinishReason, RateLimits, Usage
from schemas.tokens import Cancelled, Cleared, Delta, Failed, Finished, Persisted, Refused, Terminal, TokenEvent

_RETRY_AFTER_S: Final = 2


class SseSettings(BaseModel):
    """Limits of the answering side of the edge."""

    model_config = ConfigDict(frozen=True)

    heartbeat_seconds: float = Field(default=10, gt=0, description="Silence after which a comment is sent.")
    head_seconds_max: float = Field(default=30, gt=0, description="For the stages before inference to decide.")
    write_seconds_max: float = Field(default=10, gt=0, description="For a client to take one write.")
    persisted_seconds_max: float = Field(default=5, gt=0, description="For [DONE] to wait until history has the turn.")
    deadline_grace_seconds: float = Field(default=5, ge=0, description="After the turn's deadline, for its terminal.")
    abandon_grace_seconds: float = Field(default=10, ge=0, description="Before a stateless turn is cancelled.")
    abandoned_turns_max: int = Field(default=1000, ge=0, description="Beyond it there is no grace.")
    buffer_events_max: int = Field(default=5_000, ge=1, description="Events that wait for one client.")
    buffer_bytes_max: int = Field(default=1_048_576, ge=1, description="The same in bytes on the log.")
    answer_chars_max: int = Field(default=4_000_000, ge=1, description="Of an answer that is not streamed.")
    tick_seconds: float = Field(default=0.1, gt=0, description="Resolution of heartbeats and of the write limit.")
    poll_records_max: int = Field(default=1_000, ge=1)
    poll_wait_seconds: float = Field(default=0.5, gt=0)
    poll_failures_max: int = Field(default=20, ge=1, description="In a row, before the process gives up.")
    poll_retry_seconds: float = Field(default=0.25, gt=0)
    probe_interval_seconds: float = Field(default=2, gt=0)
    ready_seconds_max: float = Field(default=10, gt=0, description="Age of the last probe that came back.")
    system_fingerprint: str = Field(default="fp_turnstream", description="Shown to clients in every completion.")


class StreamBroken(Retryable):
    """A client's view of a turn ends before the turn does; ``refusal`` says so to the client."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.error.code or refusal.error.message)
        self.refusal = refusal


@dataclass(frozen=True, slots=True)
class Step:
    """What one batch of events brings, in the terms of a client."""

    cleared: Cleared | None = None
    texts: tuple[str, ...] = ()
    terminal: Terminal | None = None
    persisted: Persisted | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """How an answer ends well. ``cancelled`` is the reason when somebody stopped it before its end."""

    finish_reason: str
    usage: Usage | None
    cancelled: str | None = None


def read_step(events: Sequence[TokenEvent], before: Step) -> Step:
    """The step that ``events`` make after ``before``: new texts, and whatever else is known by now.

    ``events`` are the ones that count (``schemas.stream_state``), in order. Texts of ``before`` are dropped: they
    were its own news.
    """
    cleared, terminal, persisted = before.cleared, before.terminal, before.persisted
    texts: list[str] = []
    for event in events:
        match event:
            case Delta():
                texts.append(event.content.text)
            case Cleared():
                cleared = event
            case Finished() | Failed() | Refused() | Cancelled():
                terminal = event
            case Persisted():
                persisted = event
            case _:
                # Fences and probes are the log's own affair.
                pass
    return Step(cleared, tuple(texts), terminal, persisted)


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


def fell_behind() -> Refusal:
    """The client read more slowly than the answer was written; the answer itself goes on."""
    return unavailable("The stream fell behind its answer and was closed. It can be resumed.", "stream_fell_behind")


def interrupted() -> Refusal:
    """The log cannot be followed from here any more; the answer itself goes on."""
    return unavailable("The stream was interrupted. It can be resumed.", "stream_interrupted")


def draining() -> Refusal:
    """This process is shutting down; the answer itself goes on."""
    return unavailable("This server is shutting down. The stream can be resumed.", "server_shutting_down")


def answer_too_long() -> Refusal:
    """500: the answer exceeds what is held for a client that does not stream."""
    return server_error("The answer is too long to be sent in one piece. Use 'stream'.", "answer_too_long")


def _finished(terminal: Finished) -> Ending | Refusal:
    match terminal.finish_reason:
        case FinishReason.STOP | FinishReason.LENGTH | FinishReason.CONTENT_FILTER:
            return Ending(terminal.finish_reason.value, terminal.usage)
        case FinishReason.CANCELLED:
            return Ending(FinishReason.STOP.value, terminal.usage, cancelled="client")
        case FinishReason.FAILED:
            return server_error("The answer could not be completed.", "generation_failed")
        case _:
            assert_never(terminal.finish_reason)
