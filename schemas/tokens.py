"""The events of one answer on ``chat.tokens.v1``: from clearance to exactly one terminal event.

All records of a turn lie in one partition (``schemas.ids.turn_partition``), keyed by the turn id. What
they mean together is decided by one pure function, ``schemas.stream_state.advance``.
"""

from typing import Annotated, Literal

from pydantic import Field

from schemas.content import Content
from schemas.errors import Refusal
from schemas.event import Event, unset
from schemas.events import CHAT, NO_PARENT, Api, FinishReason, RateLimits, Route, Usage, is_chat, is_wanted
from schemas.generation import TokenLogprob, ToolCallDelta
from schemas.messages import Message


def is_one(choices: int) -> bool:
    """Whether there is one answer, of which records say nothing."""
    return choices == 1


class Cleared(Event):
    """Moderation let the turn pass: the edge may send its HTTP head. Also what the sink needs to store it."""

    type: Literal["cleared"] = "cleared"
    turn_id: str
    conversation_id: str
    tenant_id: str
    user_id: str
    model: str
    stored: bool
    message_seq: int = Field(ge=0)
    submitted_at_ms: int
    limits: RateLimits
    input: tuple[Message, ...] = Field(default=(), description="The turn's own messages, only if they are stored.")
    api: Api = Field(default=CHAT, exclude_if=is_chat)
    request: Content | None = Field(default=None, description="As ``Turn.request``.")
    parent_seq: int | None = Field(default=None, ge=NO_PARENT, description="As ``TurnPrompted.parent_seq``.")
    answers_seq: int | None = Field(default=None, ge=0, description="As ``Turn.answers_seq``.")
    choices: int = Field(default=1, ge=1, exclude_if=is_one, description="As ``Turn.generation.n``.")

    @property
    def answer_seq(self) -> int:
        """The place of the answer in its conversation: right after the turn's own messages."""
        return self.message_seq + len(self.input)

    wants_answer: bool = Field(default=True, exclude_if=is_wanted, description="As ``Turn.wants_answer``.")


class Refused(Event):
    """Terminal, unless the turn is cleared. A stage before inference said no; the HTTP status is still open."""

    type: Literal["refused"] = "refused"
    turn_id: str
    stage: str
    refusal: Refusal
    limits: RateLimits | None = None


class AttemptStarted(Event):
    """The fence: from here on, deltas of ``attempt`` by ``owner`` may count and those of older attempts do not."""

    type: Literal["attempt_started"] = "attempt_started"
    turn_id: str
    attempt: int = Field(ge=1)
    owner: str
    route: Route | None = Field(default=None, description="The model and pool that this attempt generates with.")


class Delta(Event):
    """The next piece of the answer. ``seq`` counts accepted deltas of the turn from 0, over all attempts."""

    type: Literal["delta"] = "delta"
    turn_id: str
    attempt: int = Field(ge=1)
    owner: str
    seq: int = Field(ge=0)
    content: Content
    tokens: int = Field(ge=0, description="Completion tokens in this piece.")
    choice: int = Field(default=0, ge=0, exclude_if=unset, description="Which of the turn's ``n`` answers.")
    tool_calls: tuple[ToolCallDelta, ...] = Field(default=(), exclude_if=unset)
    logprobs: tuple[TokenLogprob, ...] = Field(default=(), exclude_if=unset)


class Finished(Event):
    """Terminal. The answer is complete; ``seq`` is the number of deltas before it."""

    type: Literal["finished"] = "finished"
    turn_id: str
    attempt: int = Field(ge=1)
    owner: str
    seq: int = Field(ge=0)
    finish_reason: FinishReason
    choice_reasons: tuple[FinishReason, ...] = Field(
        default=(), exclude_if=unset, description="Of each choice, when there are several; the first is as above."
    )
    usage: Usage


class Failed(Event):
    """Terminal. No more of the answer will come. Without attempt and owner it ends the turn unconditionally."""

    type: Literal["failed"] = "failed"
    turn_id: str
    attempt: int | None = Field(default=None, ge=1)
    owner: str | None = None
    refusal: Refusal


class Cancelled(Event):
    """Terminal. The client (or the edge, for an abandoned stateless turn) gave up; what is there stays."""

    type: Literal["cancelled"] = "cancelled"
    turn_id: str
    reason: Literal["client", "abandoned"]


class Persisted(Event):
    """After the terminal: history and hot context contain the turn; whoever reads now reads the answer."""

    type: Literal["persisted"] = "persisted"
    turn_id: str
    message_seq: int = Field(ge=0, description="Sequence of the stored answer.")


class Probed(Event):
    """No turn: an edge proves that what it writes here comes back to it."""

    type: Literal["probed"] = "probed"
    edge_id: str
    nonce: str


class Attached(Event):
    """A client follows the turn through this edge now: only this edge may find it abandoned. Changes no text."""

    type: Literal["attached"] = "attached"
    turn_id: str
    edge_id: str


TokenEvent = Annotated[
    Cleared | Refused | AttemptStarted | Delta | Finished | Failed | Cancelled | Persisted | Attached | Probed,
    Field(discriminator="type"),
]
Terminal = Refused | Finished | Failed | Cancelled
